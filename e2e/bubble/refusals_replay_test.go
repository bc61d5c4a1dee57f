package bubble

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

func ofReplays(t *testing.T) []refusal {
	var rows []refusal
	inWorld(t, 3, asIs, func(w *world) {
		_, _, leader := w.settled()
		c := leader.running()
		before := c.State()
		refused := func(input string, want, err error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", input, err, want)
			}
			rows = append(rows, refusal{input, w.plain(err.Error()), "nothing is changed"})
		}
		refused("a command that was decided under an earlier revision", fsm.ErrStaleRev,
			c.Submit(t.Context(), fsm.Pause{}, 9999, "test"))
		_, err := before.Apply(fsm.Envelope{ID: before.Seen[len(before.Seen)-1], Change: fsm.Pause{}})
		refused("a command that was applied already, sent again", fsm.ErrDuplicate, err)
		refused("what was said as the primary of another epoch", fsm.ErrStaleEpoch,
			c.Submit(t.Context(), fsm.Promoted{Epoch: 9, Node: before.Primary, Timeline: 1, SystemID: 42}, 0, "test"))
		refused("the end of a switchover that is not pending", fsm.ErrNoWish,
			c.Submit(t.Context(), fsm.EndWish{ID: "switchover-1-A"}, 0, "test"))
		fresh := before
		fresh.Lineage = append([]fsm.Lineage(nil), before.Lineage...)
		fresh.Lineage[len(fresh.Lineage)-1].Promoted = false
		foreign := fsm.Promoted{Epoch: before.Epoch, Node: before.Primary, Timeline: 1, SystemID: 77}
		_, err = fresh.Apply(fsm.Envelope{ID: "p", Change: foreign})
		refused("a primary whose data are of another initdb", fsm.ErrSystemID, err)
		if now := c.State(); now.Version != before.Version {
			t.Errorf("version %d -> %d", before.Version, now.Version)
		}
	})
	return append(rows, replayedBeats(t)...)
}

// beatFrame is a beat on the wire.
func beatFrame(t *testing.T, clusterID string, node fsm.NodeID, incarnation, seq uint64) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"v": 1, "cluster": clusterID, "node": node, "inc": incarnation, "seq": seq, "report": failover.Report{Node: node},
	})
	if err != nil {
		t.Fatal(err)
	}
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
}

// replayedBeats has somebody speak for a member that is down, and repeat what it said.
func replayedBeats(t *testing.T) []refusal {
	var rows []refusal
	inWorld(t, 3, asIs, func(w *world) {
		primary, absent, leader := w.settled()
		id, clusterID := absent.id(), leader.running().ClusterID()
		absent.halt()
		time.Sleep(5 * time.Second)
		m := w.caller("evil", nil, clusterID, string(id))
		defer m.Close()
		conn, err := m.Dial(t.Context(), transport.ProtoBeat, leader.host+":7400")
		if err != nil {
			t.Fatal(err)
		}
		send := func(node fsm.NodeID, incarnation, seq uint64) error {
			if _, err := conn.Write(beatFrame(t, clusterID, node, incarnation, seq)); err != nil {
				return err
			}
			var head [4]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return err
			}
			_, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:])))
			return err
		}
		heard := func() time.Duration { return leader.running().Sightings()[id].Age }
		again := func(input string, incarnation, seq uint64) {
			t.Helper()
			time.Sleep(time.Second)
			if err := send(id, incarnation, seq); err != nil {
				t.Fatal(err)
			}
			age := heard()
			if age < time.Second {
				t.Errorf("%s: the node counts as heard %s ago", input, age)
			}
			said := fmt.Sprintf("answered; the node was last heard %s ago, as before", age.Round(time.Second))
			rows = append(rows, refusal{input, said, "counts for nothing"})
		}
		for _, first := range []struct{ incarnation, seq uint64 }{{7, 5}, {8, 1}} {
			if err := send(id, first.incarnation, first.seq); err != nil || heard() > time.Second {
				t.Fatalf("a beat: %v, heard %s ago", err, heard())
			}
			if first.incarnation == 7 {
				again("a beat, sent again", 7, 5)
			}
		}
		again("a beat of an earlier start of the node", 7, 99)
		if err := send(primary.id(), 1, 1); err == nil {
			t.Error("one node's beat was taken from another")
		}
		rows = append(rows, refusal{"a beat in the name of another member",
			"*the other's log:* " + w.plain(w.heard(leader.name, "beats refused", "the beat names")), "the connection is closed"})
	})
	return rows
}

// face is a node as its API sees it.
type face struct{ *cluster.Cluster }

func (f face) Local() api.Local                                 { return api.Local{Report: f.Sightings()[f.Self()].Report} }
func (f face) Explain(context.Context) (api.Explanation, error) { return f.ExplainHere() }
func (f face) Submit(ctx context.Context, c fsm.Command, by string) error {
	err := f.Cluster.Submit(ctx, c, 0, by)
	if errors.Is(err, cluster.ErrNoLeader) {
		return fmt.Errorf("%w: %w", api.ErrNoQuorum, err)
	}
	return err
}

func (f face) ExplainHere() (api.Explanation, error) {
	e, err := f.Cluster.ExplainHere()
	return api.Explanation{Node: e.Node, Rule: e.Rule, Verdict: e.Verdict, Because: e.Because, View: e.View}, err
}

func ofHTTP(t *testing.T) []refusal {
	var rows []refusal
	inWorld(t, 3, asIs, func(w *world) {
		primary, standby, leader := w.settled()
		l, err := w.net.Host(primary.host).Listen(primary.host + ":8008")
		if err != nil {
			t.Fatal(err)
		}
		s := api.New(face{primary.running()}, api.Options{
			Scope: "bubble", Name: primary.name, Tokens: []string{"token"}, Stop: func() {},
		})
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(l) }()
		defer func() {
			if err := errors.Join(s.Close(), <-ended); err != nil {
				t.Error(err)
			}
		}()
		client := &http.Client{Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
				return w.net.Host(primary.host).Dial(ctx, addr) // from the node's own host, which an isolated one reaches too
			},
		}}
		ask := func(input, method, path, body, token string) (status int) {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, "http://"+primary.host+":8008"+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			defer resp.Body.Close()
			var p api.Problem
			if err := json.NewDecoder(resp.Body).Decode(&p); err != nil {
				t.Fatalf("%s: %v", input, err)
			}
			if input != "" {
				asked := fmt.Sprintf("%s\n`%s`", input, strings.TrimSpace(method+" "+path+" "+body))
				rows = append(rows, refusal{asked, w.plain(p.Detail), fmt.Sprintf("%s, code %s", resp.Status, p.Code)})
			}
			return resp.StatusCode
		}
		to := fmt.Sprintf(`{"to":"%s"}`, standby.name)
		ask("no token", "POST", "/v1/switchover", to, "")
		ask("the token of another secret", "POST", "/v1/switchover", to, "other")
		ask("to nobody", "POST", "/v1/switchover", `{"to":"n9"}`, "token")
		ask("to the primary", "POST", "/v1/switchover", fmt.Sprintf(`{"to":"%s"}`, primary.name), "token")
		ask("a key that nobody knows", "POST", "/v1/switchover", `{"too":"n2"}`, "token")
		ask("a path that nobody knows", "GET", "/v1/nonsense", "", "")
		w.isolate(standby)
		w.wait("it is missed", func() bool { return leader.running().Sightings()[standby.id()].Age > 3*time.Second })
		if got := ask("", "POST", "/v1/switchover", to, "token"); got != http.StatusAccepted {
			t.Errorf("a switchover: %d", got)
		}
		ask("a switchover, sent again while it waits for its candidate", "POST", "/v1/switchover", to, "token")
		w.rejoin(standby)
		w.wait("the switchover is done", func() bool { return standby.serving() == 2 && primary.running().State().Epoch == 2 })
		ask("a switchover, sent again after it was done", "POST", "/v1/switchover", to, "token")
		w.settle()
		if e := w.epoch(); e != 2 {
			t.Errorf("epoch %d, want 2", e)
		}
		w.isolate(primary)
		w.wait("it hears no leader", func() bool { return primary.running().Leader() == "" })
		ask("no quorum", "POST", "/v1/switchover", `{}`, "token")
	})
	return rows
}
