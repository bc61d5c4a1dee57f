package gossip

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestTheAddressAlwaysFits(t *testing.T) {
	long := strings.Repeat("x", 253) + ":65535"
	for name, n := range map[string]Node{
		"short": {ID: "n1", Addr: "a:1", API: "a:2", Postgres: "a:3"},
		"long":  {ID: "n1", Addr: long, API: long, Postgres: long},
	} {
		meta := n.meta()
		got, err := nodeOf("n1", meta)
		if err != nil || got.Addr != n.Addr || len(meta) > maxMeta || len(meta) == 0 {
			t.Errorf("%s: %d bytes, %+v, %v", name, len(meta), got, err)
		}
	}
	for _, bad := range []string{"", "{", "{}", `{"a":"x:1"}`} {
		if n, err := nodeOf("n1", []byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, n)
		}
	}
}

func TestTheBookSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gossip.bin")
	var log bytes.Buffer
	logger := hclog.New(&hclog.LoggerOptions{Output: &log})
	b := openBook(path, logger)
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an empty book was written")
	}
	b.put(Node{ID: "n1", Addr: "a:1"})
	if err := b.save(); err != nil {
		t.Fatal(err)
	}
	if got, ok := openBook(path, logger).get("n1"); !ok || got != (Node{ID: "n1", Addr: "a:1"}) {
		t.Errorf("after a restart: %+v", got)
	}
	if log.Len() > 0 {
		t.Errorf("said: %s", log.String())
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := openBook(path, logger)
	if _, ok := damaged.get("n1"); ok || !strings.Contains(log.String(), "are lost") {
		t.Errorf("a damaged book: %v, said: %s", ok, log.String())
	}
}

func TestTroubleIsSaidOncePerHostAndMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLines(hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Info}))
		say := func(format string, args ...any) { fmt.Fprintf(l, format+"\n", args...) }
		said := func() int { return strings.Count(log.String(), "[WARN]") }
		for port := range 100 {
			say("packet refused: none of the keys fits from=192.0.2.1:%d", port)
		}
		say("packet refused: none of the keys fits from=192.0.2.2:1")
		say("[ERR] memberlist: discarding packet with unacceptable label %q: from=192.0.2.1:9", "x")
		say("[WARN] memberlist: Was able to connect to n2 over TCP but UDP probes failed, network may be misconfigured")
		say("[ERR] memberlist: discarding stream with unacceptable label %q: from=192.0.2.9:9", "")
		say("[WARN] memberlist: Refuting a suspect message (from: n2)")
		if said() != 4 || !strings.Contains(log.String(), "from=n2") || !strings.Contains(log.String(), "from=192.0.2.2") {
			t.Errorf("said %d times, want 4:\n%s", said(), log.String())
		}
		for host := range 1000 {
			say("packet refused: none of the keys fits from=[2001:db8::%x]:1", host)
		}
		if said() > maxSaid {
			t.Errorf("a flood from many hosts was said %d times, at most %d", said(), maxSaid)
		}
		time.Sleep(saidAgain)
		before := said()
		say("packet refused: none of the keys fits from=192.0.2.1:1")
		if said() != before+1 {
			t.Error("a minute later nothing is said")
		}
	})
}
