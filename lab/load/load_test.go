package load

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/lab/history"
)

// server answers one statement after another with what it is told, like Postgres over one connection. After its last
// answer it hangs.
func server(t *testing.T, conn net.Conn, answers ...[]pgproto3.BackendMessage) {
	b := pgproto3.NewBackend(conn, conn)
	for _, a := range answers {
		msg, err := b.Receive()
		if err != nil {
			return
		}
		if _, ok := msg.(*pgproto3.Query); !ok {
			t.Errorf("the client sent %T", msg)
		}
		for _, m := range a {
			b.Send(m)
		}
		if b.Flush() != nil {
			return
		}
	}
	// Only the next statement may come: no cancel request, no farewell.
	if rest, _ := io.ReadAll(conn); len(rest) > 0 && rest[0] != 'Q' {
		t.Errorf("the client sent %q", rest)
	}
}

func ready() pgproto3.BackendMessage { return &pgproto3.ReadyForQuery{TxStatus: 'I'} }

func row(v string) pgproto3.BackendMessage { return &pgproto3.DataRow{Values: [][]byte{[]byte(v)}} }

func done() pgproto3.BackendMessage {
	return &pgproto3.CommandComplete{CommandTag: []byte("INSERT 0 1")}
}

func refusal(severity, code string) pgproto3.BackendMessage {
	return &pgproto3.ErrorResponse{Severity: severity, SeverityUnlocalized: severity, Code: code, Message: "no"}
}

func TestWhatAnAnswerMeans(t *testing.T) {
	warning := &pgproto3.NoticeResponse{Severity: "WARNING", SeverityUnlocalized: "WARNING", Code: "01000", Message: "canceling wait for synchronous replication due to user request"}
	notice := &pgproto3.NoticeResponse{Severity: "NOTICE", SeverityUnlocalized: "NOTICE", Code: "00000", Message: "by the way"}
	type answer = []pgproto3.BackendMessage
	for _, c := range []struct {
		name   string
		answer answer
		want   history.Outcome
		tli    uint32
	}{
		{"acknowledged", answer{row("0000000A"), done(), ready()}, history.OK, 10},
		{"with a notice", answer{notice, row("00000001"), done(), ready()}, history.OK, 1},
		{"with a warning", answer{warning, row("00000001"), done(), ready()}, history.Unknown, 1},
		{"refused", answer{refusal("ERROR", "25006"), ready()}, history.Failed, 0},
		{"cancelled", answer{refusal("ERROR", canceled), ready()}, history.Unknown, 0},
		{"terminated", answer{refusal("FATAL", "57P01")}, history.Unknown, 0},
		{"panicked", answer{refusal("PANIC", "XX000")}, history.Unknown, 0},
		{"completed but never ready", answer{row("00000001"), done()}, history.Unknown, 0},
		{"silent", answer{}, history.Unknown, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				go func() {
					server(t, theirs, c.answer)
					_ = theirs.Close()
				}()
				s := &session{conn: ours, frontend: pgproto3.NewFrontend(ours, ours)}
				w := s.write("lab.load", "n1", 7, writeLimit)
				s.close()
				if w.Outcome != c.want || w.Timeline != c.tli || w.ID != 7 || w.Node != "n1" {
					t.Errorf("got %+v", w)
				}
				if w.Outcome != history.OK && w.Why == "" {
					t.Error("no reason is kept")
				}
			})
		})
	}
}

func TestWhereAWriteStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			server(t, theirs, []pgproto3.BackendMessage{row("0000000A 4294967399 1/3000060"), done(), ready()})
			_ = theirs.Close()
		}()
		s := &session{conn: ours, frontend: pgproto3.NewFrontend(ours, ours)}
		w := s.write("lab.load", "n1", 7, writeLimit)
		s.close()
		if w.Timeline != 10 || w.XID != 4294967399 || w.LSN != 0x1_03000060 {
			t.Errorf("got %+v", w)
		}
	})
}

func TestALostConnectionIsUnknown(t *testing.T) {
	ours, theirs := net.Pipe()
	go func() {
		_, _ = theirs.Read(make([]byte, 16))
		_ = theirs.Close()
	}()
	s := &session{conn: ours, frontend: pgproto3.NewFrontend(ours, ours)}
	if w := s.write("lab.load", "n1", 1, time.Minute); w.Outcome != history.Unknown {
		t.Errorf("got %+v", w)
	}
}

// standIn is a Postgres that only starts sessions: as primary or as standby.
func standIn(t *testing.T, standby bool, answer string) Host {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	inRecovery := map[bool]string{true: "on", false: "off"}[standby]
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				b := pgproto3.NewBackend(conn, conn)
				msg, err := b.ReceiveStartupMessage()
				if err != nil {
					return
				}
				if _, ok := msg.(*pgproto3.StartupMessage); !ok {
					t.Errorf("the client sent %T", msg)
					return
				}
				b.Send(&pgproto3.AuthenticationOk{})
				b.Send(&pgproto3.ParameterStatus{Name: "in_hot_standby", Value: inRecovery})
				b.Send(&pgproto3.ParameterStatus{Name: "default_transaction_read_only", Value: "off"})
				b.Send(&pgproto3.BackendKeyData{ProcessID: 1, SecretKey: binary.BigEndian.AppendUint32(nil, 1)})
				b.Send(ready())
				if b.Flush() != nil {
					return
				}
				server(t, conn, []pgproto3.BackendMessage{row(answer), done(), ready()})
			}()
		}
	}()
	host, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return Host{Addr: host, Port: port}
}

func TestThePoolFindsThePrimary(t *testing.T) {
	dead, err := net.Listen("tcp", "127.0.0.1:0") // it is connected to and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Close() }()
	host, port, err := net.SplitHostPort(dead.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	primary, standby := standIn(t, false, "00000002"), standIn(t, true, "on")
	primary.Node, standby.Node = "n3", "n2"
	p, err := newPool(Spec{Database: "postgres", Load: Account{User: "lab_load"}, Hosts: []Host{{Node: "n1", Addr: host, Port: port}, standby, primary}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	watching, unwatch := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	for i := range p.hosts {
		watchers.Go(func() { p.watch(watching, i) })
	}
	defer watchers.Wait()
	defer unwatch()
	for _, known := range []int{unknown, 2, 1, 0} {
		p.set(known)
		s, i := p.get(ctx)
		if s == nil || i != 2 {
			t.Fatalf("believing in %d: host %d, session %v", known, i, s)
		}
		if w := s.write("lab.load", "n3", 1, writeLimit); w.Outcome != history.OK || w.Timeline != 2 {
			t.Errorf("wrote %+v", w)
		}
		s.close()
	}
	for i, _ := p.known(); i != 2; i, _ = p.known() { // whoever found it last has handed the session over and says so next
		if ctx.Err() != nil {
			t.Fatal("the pool does not know the primary")
		}
		wait(ctx, time.Millisecond)
	}
	p.forget(1)
	if i, _ := p.known(); i != 2 {
		t.Error("a late word about another host made the pool forget the primary")
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if s, _ := p.get(ended); s != nil {
		t.Error("a session after the end")
	}
}

func TestAStandingSessionFindsThePromotedStandby(t *testing.T) {
	promoted := standIn(t, true, "off")
	promoted.Node = "n2"
	p, err := newPool(Spec{Database: "postgres", Load: Account{User: "lab_load"}, Hosts: []Host{promoted}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	var watcher sync.WaitGroup
	watcher.Go(func() { p.watch(ctx, 0) })
	defer watcher.Wait()
	defer stop()
	s, i := p.get(ctx)
	if s == nil || i != 0 || !s.writable {
		t.Fatalf("host %d, session %+v", i, s)
	}
	s.close()
}

// Where nobody is left to fence the old primary two hosts are writable, and clients go to the new one.
func TestThePoolDoesNotGoBackToAnOldPrimary(t *testing.T) {
	old, promoted := standIn(t, false, "00000001"), standIn(t, true, "off")
	old.Node, promoted.Node = "n1", "n2"
	p, err := newPool(Spec{Database: "postgres", Load: Account{User: "lab_load"}, Hosts: []Host{old, promoted}, DialLimit: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	var watchers sync.WaitGroup
	defer watchers.Wait()
	defer stop()
	watchers.Go(func() { p.watch(ctx, 0) })
	s, i := p.get(ctx)
	if s == nil || i != 0 {
		t.Fatalf("host %d, session %v", i, s)
	}
	s.close()
	watchers.Go(func() { p.watch(ctx, 1) })
	for i, changed := p.known(); i != 1; i, changed = p.known() {
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatal("the pool does not move to the new primary")
		}
	}
	_, changed := p.known()
	select {
	case <-changed:
		i, _ := p.known()
		t.Errorf("the pool went on to host %d", i)
	case <-time.After(5 * answeredAfter):
	}
}

func TestMainWritesUntilItsInputEnds(t *testing.T) {
	primary := standIn(t, false, "00000002")
	primary.Node = "n1"
	events := filepath.Join(t.TempDir(), "events")
	spec, err := json.Marshal(Spec{Hosts: []Host{primary}, Writers: 2, Database: "postgres", Load: Account{User: "lab_load", Table: "lab.load"}, Events: events})
	if err != nil {
		t.Fatal(err)
	}
	in, tell := io.Pipe()
	out, said := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- Main(t.Context(), in, said) }()
	if _, err := tell.Write(append(spec, '\n')); err != nil {
		t.Fatal(err)
	}
	for dec := json.NewDecoder(out); ; {
		var p Progress
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		if p.Acks > 0 {
			break
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := errors.Join(tell.Close(), <-ended); err != nil {
		t.Fatal(err)
	}
	writes, err := Read(events)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[int64]bool{}
	for _, w := range writes {
		if seen[w.ID] || w.End < w.Start {
			t.Errorf("write %+v", w)
		}
		seen[w.ID] = true
	}
	if len(writes) == 0 || writes[0].Outcome != history.OK {
		t.Errorf("the history has %d writes: %+v", len(writes), writes)
	}
}

func TestMainSaysWhatIsWrongWithItsInput(t *testing.T) {
	for _, in := range []string{"", "{", "[]\n", `{"hosts":[{"node":"n1","addr":"x","port":"many"}],"events":"/dev/null"}` + "\n"} {
		if err := Main(t.Context(), strings.NewReader(in), &bytes.Buffer{}); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}
