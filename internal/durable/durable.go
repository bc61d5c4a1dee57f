// Package durable keeps one typed record per file so that it survives a crash at any instant:
// after Save returns nil the new value is on the disk, and before that the old one still is.
//
// Promises that the safety of the cluster rests on (seals, releases, the sync rule in force)
// live in such files. So Load must never return a zero value for a file that is damaged: a
// forgotten seal is a broken promise, and only an operator may decide what to do about it.
//
// A file holds a header (magic, version, length, CRC-32C; 20 bytes, little-endian) and the
// value as JSON, which an operator can read with `tail -c +21`.
package durable

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

var (
	// ErrAbsent says that the file does not exist: nothing was ever saved there, or the
	// directory is not the one it was.
	ErrAbsent = errors.New("no such record")
	// ErrDamaged says that the file exists and is not what Save wrote.
	ErrDamaged = errors.New("record is damaged")
	// ErrVersion says that the file is whole and was written with another record version.
	ErrVersion = errors.New("record has another version")
	// ErrValue says that Save was given a value that Load could not give back.
	ErrValue = errors.New("value can't be kept")
)

const (
	headerSize = 20
	// maxPayload bounds what Load takes into memory at the word of a length field (bytes).
	maxPayload = 256 << 20
	tempSuffix = ".tmp"
)

// magic begins every file. Its last byte is the version of this header, not of the record.
var magic = [8]byte{'q', 'u', 'o', 'r', 'a', 't', 'e', 1}

// Save makes v the content of path, mode 0600, and returns once it is on the disk. The directory
// must exist. On an error from the last step (syncing the directory) the disk may hold either
// the old or the new value, whole; after any other error it holds the old one.
//
// At most one Save per path may run at a time, from whatever process: the temporary file has a
// fixed name so that crashes can't pile them up. Any number of Loads may run beside it.
func Save[T any](path string, version uint32, v T) error {
	content, err := encode(version, v)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return WriteFile(path, content)
}

// WriteFile is Save for content of another form than a record's, such as one that people write too.
func WriteFile(path string, content []byte) error {
	temp := path + tempSuffix
	if err := writeTemp(temp, content); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

// Load returns what Save last put at path under the same version, and has made sure that the disk keeps it: of a
// process that was killed between the rename and the sync the new value is seen, and what is promised because of it would
// be forgotten in a loss of power. (The content was synced before it got its name.) Errors: ErrAbsent, ErrDamaged,
// ErrVersion, or the operating system's when the file exists and can't be read, or its directory can't be synced.
func Load[T any](path string, version uint32) (T, error) {
	var none T
	content, err := read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, fmt.Errorf("%w: %s", ErrAbsent, path)
	}
	if err != nil {
		return none, fmt.Errorf("load record: %w", err)
	}
	payload, err := unwrap(content, version)
	if err == nil {
		if err := syncDir(filepath.Dir(path)); err != nil {
			return none, fmt.Errorf("load %s: %w", path, err)
		}
		var v T
		if v, err = decode[T](payload); err == nil {
			return v, nil
		}
	}
	if errors.Is(err, ErrVersion) {
		return none, fmt.Errorf("load %s: %w; run the release that wrote it, or upgrade this one", path, err)
	}
	return none, fmt.Errorf("load %s: %w; restore the file from this node's own disk, or make this node a new member of the cluster: don't delete it and carry on, it may hold a promise", path, err)
}

// encode renders header and payload.
func encode[T any](version uint32, v T) ([]byte, error) {
	payload, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrValue, err)
	}
	// A null would come back as a zero value.
	if bytes.Equal(payload, []byte("null")) {
		return nil, fmt.Errorf("%w: it is nil", ErrValue)
	}
	if len(payload) > maxPayload {
		return nil, fmt.Errorf("%w: %d bytes of JSON, at most %d", ErrValue, len(payload), maxPayload)
	}
	content := make([]byte, headerSize, headerSize+len(payload))
	copy(content, magic[:])
	binary.LittleEndian.PutUint32(content[8:], version)
	binary.LittleEndian.PutUint32(content[12:], uint32(len(payload)))
	content = append(content, payload...)
	binary.LittleEndian.PutUint32(content[16:], checksum(content))
	return content, nil
}

// checksum covers version, length and payload; the magic is compared as it is.
func checksum(content []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(0, table, content[8:16])
	return crc32.Update(sum, table, content[headerSize:])
}

// unwrap checks the header and returns the payload. Damage is found before the version is
// looked at, so that a flipped bit in the version does not send anybody after another release.
func unwrap(content []byte, version uint32) ([]byte, error) {
	if len(content) < headerSize {
		return nil, fmt.Errorf("%w: %d bytes, a header alone has %d", ErrDamaged, len(content), headerSize)
	}
	if !bytes.Equal(content[:8], magic[:]) {
		return nil, fmt.Errorf("%w: it begins with %q", ErrDamaged, content[:8])
	}
	payload := content[headerSize:]
	if length := binary.LittleEndian.Uint32(content[12:]); uint64(length) != uint64(len(payload)) {
		return nil, fmt.Errorf("%w: %d bytes of payload, the header says %d", ErrDamaged, len(payload), length)
	}
	if stored, sum := binary.LittleEndian.Uint32(content[16:]), checksum(content); stored != sum {
		return nil, fmt.Errorf("%w: checksum %08x, computed %08x", ErrDamaged, stored, sum)
	}
	if got := binary.LittleEndian.Uint32(content[8:]); got != version {
		return nil, fmt.Errorf("%w: %d, this program knows %d", ErrVersion, got, version)
	}
	return payload, nil
}

// decode reads the JSON strictly: a field that T does not know would be lost by the next Save,
// so a change of T's fields needs a new version.
func decode[T any](payload []byte) (T, error) {
	var v, none T
	if bytes.Equal(bytes.TrimSpace(payload), []byte("null")) {
		return none, fmt.Errorf("%w: the value is null", ErrDamaged)
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&v); err != nil {
		return none, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return none, fmt.Errorf("%w: something follows the value", ErrDamaged)
	}
	return v, nil
}

// read takes the whole file, bounded by the largest one that Save writes.
func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, headerSize+maxPayload+1))
}

// writeTemp puts content into a new file and onto the disk. A leftover of a crashed Save is
// removed first: its mode and owner could be anybody's.
func writeTemp(temp string, content []byte) error {
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove leftover: %w", err)
	}
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write temporary file: %w", err), os.Remove(temp))
	}
	return nil
}

// syncDir makes a rename inside dir survive a power failure.
func syncDir(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync: %w", err)
	}
	err = file.Sync()
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
