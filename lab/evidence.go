package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/lab/history"
)

// lostOf returns the load's writes that were acknowledged and are not in present, which is sorted.
func lostOf(writes []history.Write, present []int64) (lost []history.Write) {
	for _, w := range writes {
		if _, there := slices.BinarySearch(present, w.ID); w.OfLoad() && w.Outcome == history.OK && !there {
			lost = append(lost, w)
		}
	}
	return lost
}

// found returns which of the lost writes stand in the commit lists of the evidence, by the number of their transaction.
func found(lost []history.Write, kept []Kept) (ids []int64, err error) {
	for _, k := range kept {
		listed, err := commitsIn(k.Path)
		if err != nil {
			return ids, err
		}
		for _, w := range lost {
			if w.Node == k.Node && listed[w.XID] {
				ids = append(ids, w.ID)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), nil
}

// commitsIn reads the numbers of the transactions in the list of commits of a directory with evidence. There is none where
// a whole data directory was set aside.
func commitsIn(dir string) (map[uint64]bool, error) {
	listed := map[uint64]bool{}
	b, err := os.ReadFile(filepath.Join(dir, "commits.jsonl"))
	if errors.Is(err, fs.ErrNotExist) {
		return listed, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the evidence: %w", err)
	}
	for d := json.NewDecoder(bytes.NewReader(b)); ; {
		var line struct {
			XID uint64 `json:"xid"`
		}
		switch err := d.Decode(&line); {
		case errors.Is(err, io.EOF):
			return listed, nil
		case err != nil:
			return nil, fmt.Errorf("read the list of commits in %s: %w", dir, err)
		}
		listed[line.XID] = true
	}
}
