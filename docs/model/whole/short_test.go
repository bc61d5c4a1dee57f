package main

import (
	"testing"
	"time"

	"github.com/quorate/quorate/docs/model/mc"
)

func TestShortConfigurations(t *testing.T) {
	if err := runShort(t.Output()); err != nil {
		t.Fatal(err)
	}
}

// Every switch of Cfg that leaves a rule out belongs to a mutation, and with it switched back the variant holds. A mutation
// that is found because its bounds alone break the model would prove nothing.
func TestMutationsHoldWithoutTheirSwitch(t *testing.T) {
	for _, c := range configs() {
		if c.Name[:4] != "mut-" {
			continue
		}
		whole := Cfg{Name: c.Name, L: c.L, MaxEpoch: c.MaxEpoch, MaxLog: c.MaxLog, WAL: c.WAL, MaxRestart: c.MaxRestart, MaxReclone: c.MaxReclone,
			MaxChanges: c.MaxChanges, MaxAccept: c.MaxAccept, D0: c.D0, K0: c.K0, Release: c.Release, Reapp: c.Reapp, NoGuard: c.NoGuard}
		if whole == c {
			t.Errorf("%s switches nothing off", c.Name)
		}
		if r := mc.BFS[St](&M{whole}, 50_000, time.Minute); r.Violation != "" {
			t.Errorf("%s is broken without its mutation, too: %s", c.Name, r.Violation)
		}
	}
}
