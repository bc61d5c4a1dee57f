package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/transport"
)

// joinBox bounds how long a node asks to be let in: as long as a member of its name may take to be removed.
const joinBox = 50 * time.Second

// begin returns the secrets of the cluster that this node belongs to, or founds with its peers. A node that belongs to none and
// names no peers waits until it is told to init or to join; not ok: it was ended before.
func (n *Node) begin(ctx context.Context) (secrets []transport.Secret, ok bool, err error) {
	if secrets, err = readSecrets(n.cfg.Cluster); err != nil {
		return nil, false, err
	}
	belongs, err := cluster.Belongs(n.cfg.Cluster.DataDir)
	if err != nil {
		return nil, false, err
	}
	if !belongs && len(n.cfg.Cluster.Peers) == 0 {
		if told, err := n.awaitOrder(ctx, secrets); err != nil || !told {
			return nil, false, err
		}
		if secrets, err = readSecrets(n.cfg.Cluster); err != nil {
			return nil, false, err
		}
	}
	if len(secrets) == 0 && !loopback(n.cfg.Cluster.Listen) {
		return nil, false, fmt.Errorf("cluster.listen %q is not loopback and there is no secret, so anyone who reaches the port would be a member: put the cluster's secret into %s or name it in cluster.secret_file",
			n.cfg.Cluster.Listen, n.secretFile())
	}
	return secrets, true, nil
}

// takeTiming derives this node's timing from failover_after of the cluster that it belongs to. What the node file says is for the
// founding only: a node that joined may well say something else, or nothing.
func (n *Node) takeTiming() error {
	own := time.Duration(n.cfg.Bootstrap.DCS.FailoverAfter)
	d, err := cluster.FailoverAfter(n.cfg.Cluster.DataDir)
	if err != nil {
		return err
	}
	if d == 0 {
		d = own // the cluster begins only if all its nodes say the same
	}
	if d != own && n.cfg.Bootstrap.SaysFailoverAfter {
		n.log.Warn("failover_after of the node file is not used: the cluster's was fixed when it was founded", "node_file", own.String(), "cluster", d.String())
	}
	if ka := time.Duration(n.cfg.Fencing.KillAfter); ka > d {
		return fmt.Errorf("%w: fencing.kill_after %s is more than failover_after %s of the cluster: lower it, or leave it out", ErrNodeFile, ka, d)
	}
	n.timing = config.TimingOf(d)
	return nil
}

func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}

// secretFile is where the secret is, unless the node file holds it.
func (n *Node) secretFile() string {
	if f := n.cfg.Cluster.SecretFile; f != "" {
		return f
	}
	return filepath.Join(n.cfg.Cluster.DataDir, config.SecretName)
}

// awaitOrder answers on the unix socket and on restapi until this node was told to init or has joined, or is to end.
func (n *Node) awaitOrder(ctx context.Context, secrets []transport.Secret) (bool, error) {
	w := &waiting{Node: n, told: make(chan struct{}, 1)}
	s, err := w.server(secrets)
	if err != nil {
		return false, err
	}
	closeAPI, err := n.listenAPI(s)
	if err != nil {
		return false, err
	}
	defer closeAPI()
	n.log.Info("this node belongs to no cluster; waiting for quorate init or quorate join", "socket", filepath.Join(n.cfg.Cluster.DataDir, api.SocketName))
	select {
	case <-ctx.Done():
		return false, nil
	case <-n.opts.Stop:
		return false, nil
	case <-n.stop:
		return false, nil
	case <-w.told:
	}
	ctx, stop := context.WithTimeout(ctx, drainBox)
	defer stop()
	return true, s.Drain(ctx)
}

// drainBox is how long the answer to the order may take to leave before the sockets are opened anew.
const drainBox = 5 * time.Second

// waiting is a node that belongs to no cluster, as the API sees it.
type waiting struct {
	*Node
	told chan struct{}
	one  sync.Mutex // order at a time
}

// server has the same rules for who may change something as later: the addresses and the credentials are the node file's.
func (w *waiting) server(secrets []transport.Secret) (*api.Server, error) {
	o, err := w.apiOptions(secrets)
	if err != nil {
		return nil, err
	}
	o.Members = api.Membership{Init: w.init, Join: w.join}
	return api.New(w, o), nil
}

var errBelongsNowhere = errors.New("this node belongs to no cluster yet: quorate init makes one, quorate join HOST --token T joins one")

var errToldAlready = fmt.Errorf("%w: another order was obeyed a moment ago; see quorate status", api.ErrRefused)

func (w *waiting) Self() fsm.NodeID                            { return "" }
func (w *waiting) State() fsm.State                            { return fsm.State{} }
func (w *waiting) Changed() <-chan struct{}                    { return nil }
func (w *waiting) Leader() fsm.NodeID                          { return "" }
func (w *waiting) Sightings() map[fsm.NodeID]failover.Sighting { return nil }
func (w *waiting) Local() api.Local                            { return api.Local{} }

func (w *waiting) Explain(context.Context) (api.Explanation, error) {
	return api.Explanation{}, errBelongsNowhere
}

func (w *waiting) ExplainHere() (api.Explanation, error) {
	return api.Explanation{}, errBelongsNowhere
}

func (w *waiting) Submit(context.Context, fsm.Command, string) error {
	return fmt.Errorf("%w: %w", api.ErrRefused, errBelongsNowhere)
}

// init makes this node the first of a new cluster. Without a secret it makes one. What its data directory holds is judged when
// the cluster begins.
func (w *waiting) init(_ context.Context, r api.InitRequest) error {
	w.one.Lock()
	defer w.one.Unlock()
	if len(w.told) > 0 {
		return errToldAlready
	}
	if r.AdoptFrom != "" && r.AdoptFrom != w.cfg.Name {
		return fmt.Errorf("%w: this node is %s and names no peers, so the data can't come from %q", api.ErrRefused, w.cfg.Name, r.AdoptFrom)
	}
	secrets, err := readSecrets(w.cfg.Cluster)
	if err != nil {
		return err
	}
	if len(secrets) == 0 {
		if err := w.keepSecret(transport.GenerateSecret()); err != nil {
			return err
		}
	}
	w.cfg.Cluster.Peers, w.adoptFrom = []string{w.cfg.Cluster.ConnectAddress}, r.AdoptFrom
	w.tell()
	return nil
}

// tell ends the wait; a second order in the same moment changes nothing.
func (w *waiting) tell() {
	select {
	case w.told <- struct{}{}:
	default:
	}
}

// join asks the members to let this node in. When it returns nil the node is a member.
func (w *waiting) join(ctx context.Context, r api.JoinRequest) error {
	w.one.Lock()
	defer w.one.Unlock()
	if len(w.told) > 0 {
		return errToldAlready
	}
	t, err := cluster.ParseToken(r.Token)
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrRefused, err)
	}
	if t.Scope != w.cfg.Scope {
		return fmt.Errorf("%w: the token is of cluster %q, and scope in this node file is %q: make them equal", api.ErrRefused, t.Scope, w.cfg.Scope)
	}
	secrets, made, err := w.joinSecrets(t)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, joinBox)
	defer stop()
	c, err := w.clusterConfig(secrets)
	if err == nil {
		err = cluster.Join(ctx, c, cluster.JoinDeps{Logger: w.log, Network: transport.TCP(connectionDies), DataFacts: w.facts},
			t.ClusterID, w.joinHosts(r, t), r.Replace)
	}
	if err != nil {
		if made {
			err = errors.Join(err, os.Remove(w.secretFile()))
			w.cfg.Cluster.SecretFile = ""
		}
		return refusedBy(err)
	}
	w.tell()
	return nil
}

// joinSecrets are the secrets to join with. made: the file with it was written now, before this node is a member, since a member
// without its secret could not come back.
func (w *waiting) joinSecrets(t cluster.Token) (secrets []transport.Secret, made bool, err error) {
	secrets, err = readSecrets(w.cfg.Cluster)
	if err != nil || t.Secret == "" {
		return secrets, false, err
	}
	s, err := transport.ParseSecret([]byte(t.Secret))
	if err != nil {
		return nil, false, err
	}
	if len(secrets) > 0 {
		if secrets[0] != s {
			return nil, false, fmt.Errorf("%w: this node has another cluster.secret than the token: take it out of the node file, or out of %s", api.ErrRefused, w.secretFile())
		}
		return secrets, false, nil
	}
	return []transport.Secret{s}, true, w.keepSecret(s)
}

// joinHosts are the addresses to ask: those that were typed, with the port of the cluster if they lack one, then the token's.
func (w *waiting) joinHosts(r api.JoinRequest, t cluster.Token) []string {
	var hosts []string
	_, port, err := net.SplitHostPort(w.cfg.Cluster.Listen)
	for _, h := range r.Hosts {
		if _, _, has := net.SplitHostPort(h); has != nil && err == nil {
			h = net.JoinHostPort(h, port)
		}
		hosts = append(hosts, h)
	}
	return append(hosts, t.Addrs...)
}

// keepSecret writes the secret where the next start finds it, for the owner of the process only, whole or not at all.
func (n *Node) keepSecret(s transport.Secret) error {
	path := n.secretFile()
	if err := durable.WriteFile(path, []byte(s.Hex()+"\n")); err != nil {
		return fmt.Errorf("keep the cluster's secret: %w", err)
	}
	n.cfg.Cluster.SecretFile = path // which is followed from now on
	return nil
}

// refusedBy gives a refusal by the cluster the API's name for it.
func refusedBy(err error) error {
	switch {
	case errors.Is(err, cluster.ErrUnfit):
		return refusal{err}
	case errors.Is(err, fsm.ErrInvalid), errors.Is(err, fsm.ErrExists):
		return fmt.Errorf("%w: %w", api.ErrRefused, err)
	case errors.Is(err, cluster.ErrNotYet):
	case errors.Is(err, cluster.ErrNoLeader), errors.Is(err, cluster.ErrNotMember), errors.Is(err, cluster.ErrNobody):
		return fmt.Errorf("%w: %w", api.ErrNoQuorum, err)
	}
	return err
}

// refusal is the cluster's, whose text says already that it is one.
type refusal struct{ error }

func (r refusal) Unwrap() []error { return []error{r.error, api.ErrRefused} }

// facts is what a node that joins says of its postgresql.data_dir, read without a guard: nothing of it is started or changed.
func (w *waiting) facts() cluster.DataFacts {
	if w.cfg.Cluster.Role == fsm.RoleWitness {
		return cluster.DataFacts{Empty: true}
	}
	dir := w.cfg.PostgreSQL.DataDir
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist), err == nil && len(entries) == 0:
		return cluster.DataFacts{Empty: true, Dir: dir}
	case err != nil:
		return cluster.DataFacts{Dir: dir, Problem: fmt.Sprintf("%s can't be read: %v", dir, err)}
	}
	control, err := os.ReadFile(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return cluster.DataFacts{Dir: dir, Problem: dir + " holds something that is no PostgreSQL"}
	}
	c, err := pg.ParseControl(control)
	if err != nil {
		return cluster.DataFacts{Dir: dir, Problem: fmt.Sprintf("%s holds a PostgreSQL whose pg_control can't be read: %v", dir, err)}
	}
	return cluster.DataFacts{Dir: dir, SystemID: c.SystemID}
}
