package lab

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
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

// manifest is what evidence says of itself, as far as it is checked.
type manifest struct {
	ID      string `json:"id"`
	Discard struct {
		Timeline pg.Timeline `json:"timeline"`
		History  pg.History  `json:"history"`
		From     pg.LSN      `json:"from"`
		To       pg.LSN      `json:"to"`
	} `json:"discard"`
	Bytes uint64 `json:"bytes"`
	Files []struct {
		Path   string `json:"path"`
		Bytes  int64  `json:"bytes"`
		SHA256 string `json:"sha256"`
	} `json:"files"`
}

// readKept reads evidence again and says which log and which transactions it really has, whatever it says of that itself. now is the
// time on the clock of histories.
func readKept(k Kept, now int64) judge.Kept {
	e := judge.Kept{ID: k.ID, Node: k.Node}
	say := func(format string, args ...any) { e.Broken = append(e.Broken, fmt.Sprintf(format, args...)) }
	if k.Way == "quarantine" { // nobody reads what is damaged, or of no one time: it has to be there
		e.Whole = judge.Span{To: now}
		if entries, err := os.ReadDir(k.Path); err != nil || len(entries) == 0 {
			say("the directory that was set aside is not there, or empty: %v", err)
		}
		return e
	}
	var m manifest
	b, err := os.ReadFile(filepath.Join(k.Path, "manifest.json"))
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		say("its manifest can't be read: %v", err)
		return e
	}
	if d := m.Discard; m.ID != k.ID || d.To < d.From || m.Bytes != uint64(d.To-d.From) {
		say("its manifest is of %s and says %d bytes from %s to %s", m.ID, m.Bytes, d.From, d.To)
		return e
	}
	for _, f := range m.Files {
		if why := differs(filepath.Join(k.Path, f.Path), f.Bytes, f.SHA256); why != "" {
			say("%s %s", f.Path, why)
		}
	}
	if e.XIDs, err = commitsIn(k.Path); err != nil {
		say("%v", err)
	}
	log, commits, err := walkKept(k.Path, m)
	if err != nil {
		say("its log can't be read: %v", err)
		return e
	}
	e.Log = log
	if !maps.Equal(commits, e.XIDs) {
		say("its log has %d commits and its list has %d, and they are not the same", len(commits), len(e.XIDs))
	}
	return e
}

// differs says what is wrong with a file; "" if nothing is.
func differs(file string, size int64, sum string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	n, err := io.Copy(h, f)
	switch {
	case err != nil:
		return err.Error()
	case n != size:
		return fmt.Sprintf("has %d bytes and not %d", n, size)
	case hex.EncodeToString(h.Sum(nil)) != sum:
		return "has another sum"
	}
	return ""
}

// keptLog are the segments in a directory.
type keptLog struct {
	dir  string
	size uint64
}

// Open implements wal.Segments.
func (l keptLog) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	f, err := os.Open(filepath.Join(l.dir, pg.SegmentName(tli, start, l.size)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return f, err == nil, err
}

// walkKept reads every record of the log in a directory of evidence.
func walkKept(dir string, m manifest) (all []judge.Stretch, commits map[uint64]bool, err error) {
	d := m.Discard
	if d.To == d.From {
		return nil, map[uint64]bool{}, nil
	}
	content, err := os.ReadFile(filepath.Join(dir, "pg_control"))
	if err != nil {
		return nil, nil, err
	}
	control, err := pg.ParseControl(content)
	if err != nil {
		return nil, nil, err
	}
	return walkLog(filepath.Join(dir, "wal"), control, d.Timeline, d.History, d.From, d.To)
}

// walkLog reads every record of the log of a timeline with that ancestry, from a position on. It returns the log that could be read,
// up to another position, cut at where one timeline left another, and the transactions that commit in it.
func walkLog(dir string, c pg.Control, tli pg.Timeline, history pg.History, from, to pg.LSN) (all []judge.Stretch, commits map[uint64]bool, err error) {
	log := wal.Log{
		Segments: keptLog{dir, c.WalSegmentSize}, SegmentSize: c.WalSegmentSize, BlockSize: c.WalBlockSize,
		SystemID: c.SystemID, Timeline: tli, History: history,
	}
	commits = map[uint64]bool{}
	end, err := log.Walk(from, func(r wal.Record) bool {
		if r.Commit != nil {
			commits[uint64(r.Commit.XID)] = true
		}
		return true
	})
	if err != nil {
		return nil, nil, err
	}
	return stretches(tli, history, from, min(end.LSN, to)), commits, nil
}

// stretches cuts log of a timeline with that ancestry at where it left each ancestor.
func stretches(tli pg.Timeline, history pg.History, from, to pg.LSN) (all []judge.Stretch) {
	for _, h := range history {
		if from < h.End && from < to {
			all = append(all, judge.Stretch{Timeline: uint32(h.Timeline), From: from, To: min(to, h.End)})
			from = min(to, h.End)
		}
	}
	if from < to {
		all = append(all, judge.Stretch{Timeline: uint32(tli), From: from, To: to})
	}
	return all
}
