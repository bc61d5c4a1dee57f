package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

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

// commitsIn reads the numbers of the transactions in the commit lists of a directory with evidence: the files called
// commits something. Every decimal number in them is taken for one, so a list of another form is understood, too.
func commitsIn(dir string) (map[uint64]bool, error) {
	listed := map[uint64]bool{}
	files, err := filepath.Glob(filepath.Join(dir, "commits*"))
	if err != nil {
		return nil, fmt.Errorf("look for commit lists in %s: %w", dir, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read the evidence: %w", err)
		}
		for _, word := range strings.FieldsFunc(string(b), func(r rune) bool { return r < '0' || r > '9' }) {
			if xid, err := strconv.ParseUint(word, 10, 64); err == nil {
				listed[xid] = true
			}
		}
	}
	return listed, nil
}
