package pgctl

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
)

// Evidence is what was kept of log that a rewind or a clone takes away from the data directory. It is in a directory of
// its own, mode 0700, which quorate never removes.
type Evidence struct {
	ID       string // unique in the cluster, and the same when the same log is kept again
	Epoch    uint64 // whose timeline the node follows instead
	Timeline pg.Timeline
	From, To pg.LSN
	Commits  int    // -1: the log could not be read to its end
	Way      string // rewind, clone or quarantine, as it was begun
	Path     string // of a quarantine the directory that was set aside, else that of the evidence
	SHA256   string // of manifest.json
}

// discard is log that is about to be taken away.
type discard struct {
	Epoch    uint64      `json:"epoch"`
	Timeline pg.Timeline `json:"timeline"`
	History  pg.History  `json:"history"` // ancestry of Timeline
	From     pg.LSN      `json:"from"`
	To       pg.LSN      `json:"to"`
	Way      string      `json:"way"`
}

func (d discard) id(node string) string {
	return fmt.Sprintf("%s-%d-%d-%X-%X", node, d.Epoch, d.Timeline, uint64(d.From), uint64(d.To))
}

// manifest is the content of manifest.json.
type manifest struct {
	ID       string            `json:"id"`
	Node     string            `json:"node"`
	SystemID pg.SystemID       `json:"system_id"`
	Made     time.Time         `json:"made"`
	Because  string            `json:"because"`
	Discard  discard           `json:"discard"`
	Bytes    uint64            `json:"bytes"` // of log, from From to To
	Complete bool              `json:"complete"`
	Note     string            `json:"note,omitempty"` // why it is not complete
	Commits  int               `json:"commits"`
	First    *commitLine       `json:"first_commit,omitempty"`
	Last     *commitLine       `json:"last_commit,omitempty"`
	Records  map[string]uint64 `json:"records"` // by resource manager
	Files    []keptFile        `json:"files"`
	Aside    string            `json:"aside,omitempty"` // a data directory that was set aside whole
}

type keptFile struct {
	Path   string `json:"path"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// commitLine is one line of commits.jsonl.
type commitLine struct {
	LSN      pg.LSN    `json:"lsn"`
	XID      uint32    `json:"xid"`
	Time     time.Time `json:"time"`
	Prepared bool      `json:"prepared,omitempty"`
}

const (
	manifestFile = "manifest.json"
	commitsFile  = "commits.jsonl"
	recordedMark = ".recorded" // behind the id: the cluster knows of it
	logTailBytes = 256 << 10
)

func (i *Instance) evidenceDir() string { return i.cfg.own("evidence") }

// keepEvidence saves what d is about to lose, durably, before it returns. Postgres must not run. Evidence that is there
// is left as it is; a part that a crash left is made anew.
func (i *Instance) keepEvidence(ctx context.Context, d discard, because string) error {
	id := d.id(i.cfg.Name)
	final := filepath.Join(i.evidenceDir(), id)
	if _, err := os.Stat(filepath.Join(final, manifestFile)); err == nil {
		return i.noticeEvidence()
	}
	fill := func(dir string) error {
		return i.fillEvidence(ctx, dir, manifest{ID: id, Node: i.cfg.Name, Made: time.Now().UTC(), Because: because, Discard: d})
	}
	if err := i.makeEvidence(id, fill); err != nil {
		return fmt.Errorf("keep the log that goes as evidence: %w", err)
	}
	i.log.Warn("kept log that the cluster's history does not have", "timeline", uint32(d.Timeline), "from", d.From.String(), "to", d.To.String(), "path", final)
	return i.noticeEvidence()
}

// makeEvidence has fill make the files of evidence and gives them their name when they are durable.
func (i *Instance) makeEvidence(id string, fill func(dir string) error) error {
	final, partial := filepath.Join(i.evidenceDir(), id), filepath.Join(i.evidenceDir(), "."+id+".partial")
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove a partial copy of evidence: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(partial, "wal"), 0o700); err != nil {
		return fmt.Errorf("make a directory for evidence: %w", err)
	}
	if err := fill(partial); err != nil {
		return err
	}
	if err := os.Rename(partial, final); err != nil {
		return fmt.Errorf("give the evidence its name: %w", err)
	}
	return errors.Join(syncDir(i.evidenceDir()), syncDir(i.cfg.StateDir))
}

// keepAside makes the cluster know of a data directory that was set aside whole. What is in it can't be counted: it is
// damaged, or of no one time. Repeating it changes nothing.
func (i *Instance) keepAside(epoch uint64, old, because string) error {
	id := i.cfg.Name + "-" + strings.TrimPrefix(old, i.cfg.DataDir+".")
	if _, err := os.Stat(filepath.Join(i.evidenceDir(), id, manifestFile)); err == nil {
		return i.noticeEvidence()
	}
	m := manifest{
		ID: id, Node: i.cfg.Name, Made: time.Now().UTC(), Because: because, Discard: discard{Epoch: epoch, Way: "quarantine"},
		Commits: -1, Note: "the whole data directory was set aside", Aside: old,
	}
	if err := i.makeEvidence(id, func(dir string) error { return sealManifest(dir, m) }); err != nil {
		return fmt.Errorf("record what was set aside: %w", err)
	}
	return i.noticeEvidence()
}

// fillEvidence copies and describes. Log that is missing is said in the manifest and is no error: what is left is kept.
func (i *Instance) fillEvidence(ctx context.Context, dir string, m manifest) error {
	control, err := i.readControl()
	if err != nil {
		return err
	}
	m.SystemID = control.SystemID
	if m.Discard.To > m.Discard.From {
		m.Bytes = uint64(m.Discard.To - m.Discard.From)
	}
	box := &evidenceBox{dir: dir, m: &m}
	if err := i.copyLog(ctx, box, control); err != nil {
		return err
	}
	if err := box.copy(filepath.Join(i.cfg.DataDir, "global", "pg_control"), "pg_control", 0); err != nil {
		return err
	}
	if err := box.copy(i.cfg.LogFile(), "postgres.log", logTailBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := box.describe(control); err != nil {
		return err
	}
	return sealManifest(dir, m)
}

// sealManifest writes the manifest and its sum, last of all.
func sealManifest(dir string, m manifest) error {
	content, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the manifest: %w", err)
	}
	sum := sha256.Sum256(content)
	for name, text := range map[string][]byte{manifestFile: content, "manifest.sha256": []byte(hex.EncodeToString(sum[:]) + "  " + manifestFile + "\n")} {
		if err := writeSynced(filepath.Join(dir, name), text); err != nil {
			return err
		}
	}
	return errors.Join(syncDir(filepath.Join(dir, "wal")), syncDir(dir))
}

// copyLog copies the segments of the discarded log, under every timeline that they may have, and all history files.
func (i *Instance) copyLog(ctx context.Context, box *evidenceBox, control pg.Control) error {
	d := box.m.Discard
	timelines := []pg.Timeline{d.Timeline}
	for _, e := range d.History {
		timelines = append(timelines, e.Timeline)
	}
	for at := pg.SegmentStart(d.From, control.WalSegmentSize); at < d.To; at += pg.LSN(control.WalSegmentSize) {
		for _, tli := range timelines {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("copy the log: %w", err)
			}
			name := pg.SegmentName(tli, at, control.WalSegmentSize)
			if err := box.copy(filepath.Join(i.walDir(), name), filepath.Join("wal", name), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return eachHistory(i.walDir(), func(tli pg.Timeline, _ pg.History, placeholder bool) error {
		if placeholder {
			return nil
		}
		name := pg.HistoryFileName(tli)
		return box.copy(filepath.Join(i.walDir(), name), filepath.Join("wal", name), 0)
	})
}

// evidenceBox is a directory of evidence that is being filled.
type evidenceBox struct {
	dir string
	m   *manifest
}

// copy takes over a file, or only its last bytes when tail is not 0, durably. Where the file system can share the blocks
// of the two copies, io.Copy has the kernel do that.
func (b *evidenceBox) copy(from, name string, tail int64) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("open what is to be kept: %w", err)
	}
	defer func() { _ = in.Close() }()
	if tail > 0 {
		if info, err := in.Stat(); err == nil && info.Size() > tail {
			if _, err := in.Seek(-tail, io.SeekEnd); err != nil {
				return fmt.Errorf("find the end of %s: %w", from, err)
			}
		}
	}
	to := filepath.Join(b.dir, name)
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create a copy: %w", err)
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return b.list(name)
}

// list adds a file that is there to the manifest, with the sum of what can be read back.
func (b *evidenceBox) list(name string) error {
	f, err := os.Open(filepath.Join(b.dir, name))
	if err != nil {
		return fmt.Errorf("open the copy: %w", err)
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("read the copy of %s: %w", name, err)
	}
	b.m.Files = append(b.m.Files, keptFile{Path: name, Bytes: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
	return nil
}

// describe reads the copied log: the list of commits goes to a file, the counts into the manifest.
func (b *evidenceBox) describe(control pg.Control) error {
	out, err := os.OpenFile(filepath.Join(b.dir, commitsFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create the list of commits: %w", err)
	}
	buffered := bufio.NewWriter(out)
	walked := b.walk(control, json.NewEncoder(buffered))
	if err := errors.Join(walked, buffered.Flush(), out.Sync(), out.Close()); err != nil {
		return fmt.Errorf("list the commits: %w", err)
	}
	return b.list(commitsFile)
}

func (b *evidenceBox) walk(control pg.Control, lines *json.Encoder) error {
	m, d := b.m, b.m.Discard
	m.Records = map[string]uint64{}
	if d.To <= d.From {
		m.Complete = true
		return nil
	}
	log := wal.Log{
		Segments: segments{dir: filepath.Join(b.dir, "wal"), size: control.WalSegmentSize}, SegmentSize: control.WalSegmentSize,
		BlockSize: control.WalBlockSize, SystemID: control.SystemID, Timeline: d.Timeline, History: d.History,
	}
	var failed error
	end, err := log.Walk(d.From, func(r wal.Record) bool {
		m.Records[wal.ManagerName(r.Manager)]++
		if r.Commit != nil {
			line := commitLine{LSN: r.Start, XID: r.Commit.XID, Time: time.UnixMicro(r.Commit.UnixMicro).UTC(), Prepared: r.Commit.Prepared}
			if m.First == nil {
				m.First = &line
			}
			m.Last = &line
			m.Commits++
			failed = lines.Encode(line)
		}
		return failed == nil
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	m.Complete = end.LSN >= d.To
	if !m.Complete {
		m.Note = fmt.Sprintf("the log can be read up to %s only, the list of %d commits ends there: %s", end.LSN, m.Commits, end.Detail)
		m.Commits = -1
	}
	return nil
}

func writeSynced(path string, content []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// noticeEvidence makes Status list the evidence that the cluster does not know of yet.
func (i *Instance) noticeEvidence() error {
	entries, err := os.ReadDir(i.evidenceDir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list the evidence: %w", err)
	}
	var pending []Evidence
	for _, e := range entries {
		if !e.IsDir() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		path := filepath.Join(i.evidenceDir(), e.Name())
		if _, err := os.Stat(path + recordedMark); err == nil {
			continue
		}
		one, err := readEvidence(path)
		if err != nil {
			i.log.Error("evidence can't be read; it stays where it is", "path", path, "error", err)
			continue
		}
		pending = append(pending, one)
	}
	i.note(func() { i.pending = pending })
	return nil
}

func readEvidence(path string) (Evidence, error) {
	content, err := os.ReadFile(filepath.Join(path, manifestFile))
	if err != nil {
		return Evidence{}, fmt.Errorf("read the manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil {
		return Evidence{}, fmt.Errorf("decode the manifest: %w", err)
	}
	// The id becomes the name of a file beside the directory.
	if m.ID != filepath.Base(path) || m.Commits < -1 {
		return Evidence{}, fmt.Errorf("the manifest is not of %s: it has the id %q and %d commits", filepath.Base(path), m.ID, m.Commits)
	}
	sum := sha256.Sum256(content)
	d := m.Discard
	if m.Aside != "" {
		path = m.Aside
	}
	return Evidence{
		ID: m.ID, Epoch: d.Epoch, Timeline: d.Timeline, From: d.From, To: d.To, Commits: m.Commits, Way: d.Way,
		Path: path, SHA256: hex.EncodeToString(sum[:]),
	}, nil
}

// EvidenceRecorded says that the cluster knows of the evidence id, so that Status need not list it any more, now and after
// a restart.
func (i *Instance) EvidenceRecorded(id string) error {
	var known bool
	i.note(func() {
		for _, e := range i.pending {
			known = known || e.ID == id
		}
	})
	if !known {
		return nil
	}
	mark := filepath.Join(i.evidenceDir(), id+recordedMark)
	if err := writeSynced(mark, nil); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := syncDir(i.evidenceDir()); err != nil {
		return err
	}
	return i.noticeEvidence()
}
