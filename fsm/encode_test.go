package fsm

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

var update = flag.Bool("update", false, "write the golden files anew; only for formats that were never released")

// goldenCommands has every field of every command set, so that none can vanish from the log unseen.
func goldenCommands() map[string]Command {
	member := Member{ID: "id-2", Name: "n2", Role: RoleData, Addr: "10.0.0.2:7400", Postgres: "10.0.0.2:5432", API: "10.0.0.2:8008",
		Priority: 5, NoVote: true, NoFailover: true, Leaving: true, Major: 15}
	two := rule(2, "id-1", "id-2")
	return map[string]Command{
		"init": Init{ClusterID: "c1", Scope: "demo", Members: []Member{dataMember("n1"), member},
			Config: Config{Version: 3, Doc: "a: \"<1>\"\n", Settings: Settings{FailoverAfterMS: 1000, Durability: DurabilityQuorum, Strict: true}}},
		"init-adopted": Init{ClusterID: "c1", Scope: "demo", Members: []Member{dataMember("n1"), member},
			Config: Config{Version: 1, Doc: "{}", Settings: Settings{FailoverAfterMS: 1000, Durability: DurabilityQuorum}},
			Adopted: &Adoption{Node: "id-1", SystemID: 7_300_000_000_000_000_001, Timeline: 4, Parent: 3, End: 0x1_0300_0060,
				History: pg.History{{Timeline: 1, End: 0x300_0000}}, Keep: []NodeID{"id-2"}, Aside: []NodeID{"id-3"}}},
		"appoint": Appoint{IfEpoch: 7, Node: "id-2", Timeline: 4, SwitchLSN: 0x1_0300_0060, Evidence: Evidence{
			Seals: []Seal{seal("id-2", 7, 812, 815)}, Positions: []Position{at("id-2", 7, 3, 0x1_0300_0060)},
			Release: &Release{Epoch: 7, Node: "id-1", Timeline: 3, FinalLSN: 0x1_0300_0028}}},
		"promoted":         Promoted{Epoch: 8, Node: "id-2", Timeline: 4, Parent: 3, SwitchLSN: 0x1_0300_0060, SystemID: 7_300_000_000_000_000_001},
		"set-sync":         SetSync{Rule: two, Promise: &Promise{Node: "id-1", Rev: 12, Rule: two}},
		"set-electorate":   SetElectorate{Voters: []NodeID{"id-1", "id-2"}},
		"set-member":       SetMember{Member: member},
		"remove-member":    RemoveMember{ID: "id-2"},
		"ask-switchover":   AskSwitchover{ID: "w1", To: "id-2"},
		"ask-failover":     AskFailover{ID: "w1", To: "id-2", Epoch: 7, Loss: "00ff"},
		"begin-switchover": BeginSwitchover{ID: "w1", To: "id-2"},
		"end-wish":         EndWish{ID: "w1", Because: "n2 is behind"},
		"edit-config":      EditConfig{IfVersion: 3, Doc: "b: 2\n", Settings: Settings{FailoverAfterMS: 1000, Durability: DurabilityAsync, Strict: true}},
		"record-discard": RecordDiscard{Discard: Discard{ID: "d1", Node: "id-1", Epoch: 8, Timeline: 3, From: 0x1_0300_0060, To: 0x1_0300_0100,
			Commits: 2, Way: "rewind", Path: "/var/lib/quorate/evidence/d1", SHA256: "00ff", Lossy: true, Dismissed: true}},
		"dismiss-discard": DismissDiscard{ID: "d1"},
		"record-failover": RecordFailover{Failover: Failover{Epoch: 8, From: "id-1", To: "id-2", Rule: "best-standby", Cause: "silent", Wish: "w1",
			Async: true, Phases: []Phase{{Name: "silent", MS: 1010}}, Wall: 1_700_000_000_123}},
		"pause":        Pause{},
		"resume":       Resume{Down: "id-1", Epoch: 7},
		"resume-shown": ResumeShown{Rev: 12},
	}
}

func golden(t *testing.T, name string, got []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "golden", name+".json")
	if *update {
		if err := os.WriteFile(path, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.TrimSuffix(want, []byte("\n"))
}

func TestGoldenCommands(t *testing.T) {
	for kind, change := range goldenCommands() {
		t.Run(kind, func(t *testing.T) {
			e := Envelope{ID: "r-1", IfRev: 12, By: "primary-silent", Wall: 1_700_000_000_123, Change: change}
			got, err := EncodeCommand(e)
			if err != nil {
				t.Fatal(err)
			}
			want := golden(t, kind, got)
			if !bytes.Equal(got, want) {
				t.Errorf("encoded as\n%s\nbut the file has\n%s", got, want)
			}
			back, err := DecodeCommand(want)
			if err != nil || !reflect.DeepEqual(back, e) {
				t.Errorf("decoded as %+v, %v", back, err)
			}
		})
	}
	for kind := range commands(State{}) {
		if _, ok := goldenCommands()[kind]; !ok {
			t.Errorf("no golden file for %s", kind)
		}
	}
}

func TestGoldenState(t *testing.T) {
	s := must(t, branched(t), SetMember{Member{ID: "w1", Name: "w1", Role: RoleWitness, NoVote: true}},
		AskSwitchover{ID: "w", To: "n2"}, BeginSwitchover{ID: "w", To: "n2"}, RecordDiscard{Discard: discard("d")},
		RecordFailover{Failover: Failover{Epoch: 1, Rule: "first-primary", Phases: []Phase{{Name: "appointed", MS: 3}}}})
	s = must(t, s, EditConfig{IfVersion: s.Config.Version, Doc: "b: 2", Settings: s.Config.Settings})
	got := encoded(t, s)
	want := golden(t, "state", got)
	if !bytes.Equal(got, want) {
		t.Errorf("encoded as\n%s\nbut the file has\n%s", got, want)
	}
	back, err := DecodeState(want)
	if err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("decoded as %+v, %v", back, err)
	}
}

func TestEmptyStateRoundTrip(t *testing.T) {
	s, err := DecodeState(encoded(t, State{}))
	if err != nil || !sameState(t, s, State{}) {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestDecodeRefusals(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"nothing", ``, ErrFormat},
		{"another format", `{"format":2,"kind":"pause","id":"x","change":{}}`, ErrFormat},
		{"no format", `{"kind":"pause","id":"x","change":{}}`, ErrFormat},
		{"a field that this version does not know", `{"format":1,"kind":"pause","id":"x","change":{"for":"1h"}}`, ErrFormat},
		{"a field of the frame that this version does not know", `{"format":1,"kind":"pause","id":"x","more":1,"change":{}}`, ErrFormat},
		{"two values", `{"format":1,"kind":"pause","id":"x","change":{}} {}`, ErrFormat},
		{"no change", `{"format":1,"kind":"pause","id":"x"}`, ErrFormat},
		{"a negative epoch", `{"format":1,"kind":"appoint","id":"x","change":{"if_epoch":-1}}`, ErrFormat},
		{"a position that is none", `{"format":1,"kind":"appoint","id":"x","change":{"switch_lsn":"7"}}`, ErrFormat},
		{"a kind that this version does not know", `{"format":1,"kind":"dance","id":"x","change":{}}`, ErrUnknownCommand},
	} {
		t.Run(c.name, func(t *testing.T) {
			if e, err := DecodeCommand([]byte(c.text)); !errors.Is(err, c.want) {
				t.Fatalf("got %+v, %v", e, err)
			}
		})
	}
	for _, text := range []string{``, `{}`, `{"format":2,"state":{}}`, `{"format":1,"state":{"more":1}}`, `{"format":1,"state":{}}x`} {
		if _, err := DecodeState([]byte(text)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// TestAStateOfANewerRelease is refused by its version, before what is new in it is found unreadable.
func TestAStateOfANewerRelease(t *testing.T) {
	for text, want := range map[string]string{
		`{"format":1,"state":{"min_version":2}}`:                        "needs a program of version 2, this one is of version 1",
		`{"format":1,"state":{"min_version":7,"invented":{"since":2}}}`: "needs a program of version 7, this one is of version 1",
		`{"format":1,"state":{"min_version":1,"invented":{}}}`:          "unknown field",
	} {
		if _, err := DecodeState([]byte(text)); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestUnknownCommandSaysWhetherItMayBeSkipped(t *testing.T) {
	for text, optional := range map[string]bool{
		`{"format":1,"kind":"dance","id":"x","change":{}}`:                                false,
		`{"format":1,"kind":"dance","optional":true,"id":"x","change":{"unknown":[1,2]}}`: true,
	} {
		_, err := DecodeCommand([]byte(text))
		var unknown *UnknownCommandError
		if !errors.As(err, &unknown) || unknown.Kind != "dance" || unknown.Optional != optional {
			t.Errorf("%s: %v", text, err)
		}
		if strings.Contains(err.Error(), "skipped") != optional {
			t.Errorf("%s: %v", text, err)
		}
	}
	if _, err := EncodeCommand(Envelope{ID: "x", Change: &Pause{}}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("a pointer was encoded: %v", err)
	}
	if _, err := EncodeCommand(Envelope{ID: "x"}); !errors.Is(err, ErrUnknownCommand) {
		t.Errorf("nothing was encoded: %v", err)
	}
}

func changes(all map[string]Command) []Command {
	var list []Command
	for _, c := range all {
		list = append(list, c)
	}
	return list
}
