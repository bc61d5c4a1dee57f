package load

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/lab/history"
)

func TestWhatAnAttemptOnARegisterComesTo(t *testing.T) {
	type answer = []pgproto3.BackendMessage
	get := history.Access{Key: 7, Kind: history.Get}
	swap := history.Access{Key: 7, Kind: history.Swap, Old: 1, New: 2}
	for _, c := range []struct {
		name    string
		attempt history.Access
		answer  answer
		outcome history.Outcome
		got     int64
		swapped bool
	}{
		{"read", get, answer{row("12"), done(), ready()}, history.OK, 12, false},
		{"read nothing that is a number", get, answer{row("x"), done(), ready()}, history.Unknown, 0, false},
		{"read without an answer", get, answer{}, history.Unknown, 0, false},
		{"swapped", swap, answer{row("2"), done(), ready()}, history.OK, 0, true},
		{"not swapped", swap, answer{done(), ready()}, history.OK, 0, false},
		{"a swap that is refused", swap, answer{refusal("ERROR", "25006"), ready()}, history.Failed, 0, false},
		{"a swap whose answer is cut off", swap, answer{row("2")}, history.Unknown, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				go func() {
					server(t, theirs, c.answer)
					_ = theirs.Close()
				}()
				s := &session{conn: ours, frontend: pgproto3.NewFrontend(ours, ours)}
				a := s.access("lab.register", c.attempt, writeLimit)
				s.close()
				if a.Outcome != c.outcome || a.Got != c.got || a.Swapped != c.swapped || a.Key != 7 {
					t.Errorf("got %+v", a)
				}
			})
		})
	}
}

func TestWhatAReaderSees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "sights")
		j, err := newJournal(file)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := net.Pipe()
		type answer = []pgproto3.BackendMessage
		go func() {
			server(t, theirs, answer{row("true"), done(), ready()}, answer{row("false 2001 1999"), done(), ready()}, answer{refusal("FATAL", "57P01")})
			_ = theirs.Close()
		}()
		r := &reader{host: Host{Node: "n1"}, table: "lab.load", first: 1000, highest: 1000, journal: j}
		s := &session{conn: ours, frontend: pgproto3.NewFrontend(ours, ours)}
		for i, want := range []bool{true, true, false} {
			if got := r.look(s); got != want {
				t.Errorf("look %d: %v", i, got)
			}
		}
		s.close()
		if err := j.close(); err != nil {
			t.Fatal(err)
		}
		all, err := ReadSights(file)
		if err != nil || len(all) != 2 || all[0].Primary || all[0].From != 1000 || !all[1].Primary || !reflect.DeepEqual(all[1].IDs, []int64{1999, 2001}) {
			t.Errorf("%+v, %v", all, err)
		}
		if r.highest != 2001 {
			t.Errorf("looks on from %d", r.highest)
		}
	})
}

// TestRegistersBesideTheLoad: the process writes two histories more, of registers that no other run has used, and completes them.
func TestRegistersBesideTheLoad(t *testing.T) {
	primary := standIn(t, false, "00000002")
	primary.Node = "n1"
	dir := t.TempDir()
	spec := Spec{
		Hosts: []Host{primary}, Writers: 1, Database: "postgres", Load: Account{User: "lab_load", Table: "lab.load"}, Events: filepath.Join(dir, "events"),
		Registers: &Registers{Table: "lab.register", Accesses: filepath.Join(dir, "accesses"), Sights: filepath.Join(dir, "sights")},
	}
	ctx, stop := context.WithCancel(t.Context())
	out, said := io.Pipe()
	ended := make(chan error, 1)
	before := time.Now().UnixMicro()
	go func() { ended <- Run(ctx, spec, said) }()
	for dec, p := json.NewDecoder(out), (Progress{}); p.Acks < 2; {
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	go func() { _, _ = io.Copy(io.Discard, out) }()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	accesses, err := ReadAccesses(spec.Registers.Accesses)
	if err != nil || len(accesses) == 0 {
		t.Fatalf("%d attempts, %v", len(accesses), err)
	}
	written := map[int64]bool{}
	for _, a := range accesses {
		if a.Key < before || a.Key >= accesses[0].Key+registers || a.End < a.Start || a.Kind != history.Get && written[a.New] {
			t.Errorf("attempt %+v", a)
		}
		if a.Kind != history.Get {
			written[a.New] = true
		}
	}
	sights, err := ReadSights(spec.Registers.Sights)
	if err != nil || len(sights) == 0 || sights[0].Node != "n1" || sights[0].From < before {
		t.Errorf("%d looks, %v: %+v", len(sights), err, sights)
	}
}
