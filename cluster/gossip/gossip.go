package gossip

import (
	"context"
	"fmt"
	"log"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/memberlist"
)

const (
	// joinEvery is the pause between two attempts to reach members that are not heard of.
	joinEvery = 3 * time.Second
	// firstJoin leaves the others a moment to open their ports when a cluster starts as a whole.
	firstJoin = 200 * time.Millisecond
	// openAgain is the pause before the packet port is tried again.
	openAgain = 5 * time.Second
	// streamLimit bounds a stream, whoever it is with, and one attempt to open it.
	streamLimit = 2 * time.Second
)

// Packets is where packets come from and go to, "host:port" each. ReadPacket returns an error for good after Close.
type Packets interface {
	ReadPacket(b []byte) (n int, from net.Addr, err error)
	WritePacket(b []byte, addr string) error
	Close() error
}

// Config is what a Gossip uses of the node around it. All but Peers are required. The functions may be called from many
// goroutines and must not block, except Dial and Open.
type Config struct {
	Self   Node   // this node as it shall be announced
	File   string // keeps the addresses last heard of across restarts
	Logger hclog.Logger
	// Members are the members and their replicated addresses, this node included, in a map of the caller's own. What is
	// said of anybody else is ignored.
	Members func() map[string]string
	// Peers are further addresses where members may be found.
	Peers []string
	// Open opens the packet port.
	Open func() (Packets, error)
	// Accept gives the listener of streams; those that come from it are from members.
	Accept func() net.Listener
	// Dial opens a stream to a member by its id, or to whatever member is at an address.
	Dial func(ctx context.Context, target string) (net.Conn, error)
	// OnChange is told that somebody joined, moved or fell silent.
	OnChange func()
}

// Gossip is this node's part of it. Its methods may be called from any goroutine, before and while Run runs.
type Gossip struct {
	cfg     Config
	log     hclog.Logger
	lines   *lines
	book    *book
	sealer  sealer
	changed chan struct{} // of capacity 1
}

// New reads the addresses that an earlier run heard of. keys are derived from the cluster's secrets, the first encrypts;
// without any nothing is encrypted.
func New(cfg Config, keys [][]byte) (*Gossip, error) {
	g := &Gossip{cfg: cfg, log: cfg.Logger, lines: newLines(cfg.Logger), book: openBook(cfg.File, cfg.Logger), changed: make(chan struct{}, 1)}
	return g, g.sealer.set(keys)
}

// SetKeys replaces the keys; the first encrypts from now on. Who encrypted before can't begin or cease to.
func (g *Gossip) SetKeys(keys [][]byte) error {
	if !g.sealer.encrypts() || len(keys) == 0 {
		return fmt.Errorf("%d gossip keys: encryption can't be switched on or off while running", len(keys))
	}
	return g.sealer.set(keys)
}

// Announced is what a member last said of itself, maybe to an earlier run of this node.
func (g *Gossip) Announced(id string) (Node, bool) { return g.book.get(id) }

// Run takes part under the label, which is the cluster's id, until ctx ends. Trouble with the port is logged and waited
// out: a cluster works without gossip.
func (g *Gossip) Run(ctx context.Context, label string) {
	for ctx.Err() == nil {
		if err := g.run(ctx, label); err != nil && ctx.Err() == nil {
			g.log.Warn("no gossip: moved nodes are found by their replicated addresses only", "error", err)
		}
		pause(ctx, openAgain)
	}
}

func (g *Gossip) run(ctx context.Context, label string) error {
	packets, err := g.cfg.Open()
	if err != nil {
		return err
	}
	w := newWire(g, label, packets, g.cfg.Accept())
	list, err := memberlist.Create(g.config(label, w))
	if err != nil {
		w.close()
		return fmt.Errorf("start gossip: %w", err)
	}
	var joining sync.WaitGroup
	g.tend(ctx, list, &joining)
	err = list.Shutdown()
	joining.Wait()
	return err
}

// config is memberlist's for a LAN, except that addresses are nothing to it: it knows members by id, and the wire knows
// where an id is. So a move is a change of what a member says of itself, and can't conflict with what it said before.
func (g *Gossip) config(label string, w *wire) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name, c.Label, c.Transport = g.cfg.Self.ID, label, w
	c.UDPBufferSize -= sealOverhead
	c.TCPTimeout = streamLimit
	c.EnableCompression = false
	c.Delegate, c.Events, c.Alive = delegate{g}, delegate{g}, delegate{g}
	c.Logger, c.LogOutput = log.New(g.lines, "", 0), nil
	c.MsgpackUseNewTimeFormat = true
	return c
}

// tend passes changes on and looks for members that are not heard of, until ctx ends.
func (g *Gossip) tend(ctx context.Context, list *memberlist.Memberlist, joining *sync.WaitGroup) {
	busy := make(chan struct{}, 1) // one round of joining at a time
	next := time.NewTimer(firstJoin)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.changed:
			if err := g.book.save(); err != nil {
				g.log.Warn("addresses heard of by gossip are not kept", "error", err)
			}
			g.cfg.OnChange()
		case <-next.C:
			next.Reset(joinEvery)
			select {
			case busy <- struct{}{}:
				joining.Go(func() {
					g.join(list)
					<-busy
				})
			default:
			}
		}
	}
}

// join asks at every address where a member that is not heard of might be. Whoever answers tells of all that it knows.
func (g *Gossip) join(list *memberlist.Memberlist) {
	var asking sync.WaitGroup
	for _, addr := range g.missing(list.Members()) {
		asking.Go(func() {
			// memberlist takes a name before the slash, and the wire takes a name that is an address for one.
			if _, err := list.Join([]string{addr + "/" + nowhere}); err != nil {
				g.log.Debug("no gossip with an address", "address", addr, "error", err)
			}
		})
	}
	asking.Wait()
}

// missing lists where members that are not heard of were or may be. With everybody there it is empty.
func (g *Gossip) missing(heard []*memberlist.Node) []string {
	members := g.cfg.Members()
	delete(members, g.cfg.Self.ID)
	for _, n := range heard {
		delete(members, n.Name)
	}
	if len(members) == 0 {
		return nil
	}
	addrs := map[string]bool{}
	for id, addr := range members {
		addrs[addr] = true
		if n, ok := g.book.get(id); ok {
			addrs[n.Addr] = true
		}
	}
	for _, p := range g.cfg.Peers {
		addrs[p] = true
	}
	delete(addrs, g.cfg.Self.Addr)
	return slices.Sorted(maps.Keys(addrs))
}

// poke says that something changed, without waiting for anybody.
func (g *Gossip) poke() {
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
