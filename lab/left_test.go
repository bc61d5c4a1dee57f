package lab

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/judge"
)

// TestWhatAMemberLeftWith: of the time before it was told to leave, only what its log really has beyond the present one.
func TestWhatAMemberLeftWith(t *testing.T) {
	segment, from, _ := testLog([]uint32{731, 732, 733})
	own := pg.History{{Timeline: 1, End: from + 40}}
	to := from + 120
	for _, c := range []struct {
		name string
		past judge.Past
		log  []judge.Stretch
		xids []uint64
	}{
		{"it is on the present timeline", judge.Past{Timeline: 2, History: string(own.Format())}, nil, nil},
		{"the present one left its own", judge.Past{Timeline: 3, History: string(append(own, pg.HistoryEntry{Timeline: 2, End: from + 80}).Format())},
			[]judge.Stretch{{Timeline: 2, From: from + 80, To: to}}, []uint64{733}},
		{"the present one left it when it had no more", judge.Past{Timeline: 3, History: string(append(own, pg.HistoryEntry{Timeline: 2, End: to}).Format())}, nil, nil},
		{"its own was given up", judge.Past{Timeline: 3, History: string(own.Format())}, []judge.Stretch{{Timeline: 2, From: from + 40, To: to}}, []uint64{732, 733}},
		{"its own began later", judge.Past{Timeline: 3, History: string(pg.History{{Timeline: 1, End: from}}.Format())},
			[]judge.Stretch{{Timeline: 1, From: from, To: from + 40}, {Timeline: 2, From: from + 40, To: to}}, []uint64{731, 732, 733}},
	} {
		n := &Node{Name: "n1", Dir: t.TempDir()}
		k, err := n.leftWith(c.past, 5, 7)
		if err != nil || k.Whole != (judge.Span{From: 5, To: 7}) || len(k.Log) > 0 {
			t.Errorf("%s, without a directory: %+v, %v", c.name, k, err)
		}
		for name, content := range map[string][]byte{
			"global/pg_control": testControl(), "pg_wal/" + pg.HistoryFileName(testTimeline): own.Format(), "pg_wal/" + pg.SegmentName(testTimeline, from, testSegment): segment,
		} {
			file := filepath.Join(n.PGData(), name)
			if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		k, err = n.leftWith(c.past, 5, 7)
		if err != nil || k.Node != "n1" || k.Whole != (judge.Span{From: 5, To: 7}) || !slices.Equal(k.Log, c.log) || !slices.Equal(slices.Sorted(maps.Keys(k.XIDs)), c.xids) {
			t.Errorf("%s: %+v, %v", c.name, k, err)
		}
	}
}
