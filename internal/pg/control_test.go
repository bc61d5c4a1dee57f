package pg

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"
)

// sampleControl makes a control file of one format by the published structure.
func sampleControl(version uint32) []byte {
	le := binary.LittleEndian
	content := make([]byte, 8192)
	le.PutUint64(content[0:], 7121739110011544578)
	le.PutUint32(content[8:], version)
	le.PutUint32(content[12:], 202209061)
	le.PutUint32(content[16:], uint32(ControlInArchiveRecovery))
	le.PutUint64(content[32:], 0x5000060)
	le.PutUint64(content[40:], 0x5000028)
	le.PutUint32(content[48:], 3)
	le.PutUint32(content[52:], 2)
	le.PutUint64(content[136:], 0x6000000)
	le.PutUint32(content[144:], 3)
	le.PutUint32(content[172:], 2)
	le.PutUint32(content[180:], 100)
	le.PutUint64(content[208:], math.Float64bits(1234567.0))
	le.PutUint32(content[216:], 8192)
	le.PutUint32(content[224:], 8192)
	le.PutUint32(content[228:], 16<<20)
	le.PutUint32(content[252:], 1)
	sealControl(content)
	return content
}

func sealControl(content []byte) {
	at := 288
	if binary.LittleEndian.Uint32(content[8:]) == 1800 {
		at = 292
	}
	binary.LittleEndian.PutUint32(content[at:], crc32.Checksum(content[:at], crc32.MakeTable(crc32.Castagnoli)))
}

func TestParseControl(t *testing.T) {
	for _, version := range []uint32{1300, 1700, 1800} {
		c, err := ParseControl(sampleControl(version))
		if err != nil {
			t.Fatal(err)
		}
		want := Control{
			SystemID: 7121739110011544578, PgControlVersion: version, CatalogVersion: 202209061, State: ControlInArchiveRecovery,
			Checkpoint: 0x5000060, Redo: 0x5000028, CheckpointTimeline: 3, PrevTimeline: 2, MinRecoveryPoint: 0x6000000, MinRecoveryTimeline: 3,
			WalSegmentSize: 16 << 20, WalBlockSize: 8192, BlockSize: 8192, DataChecksums: true, Logical: true, MaxConnections: 100,
		}
		if c != want {
			t.Errorf("format %d:\n%+v, want\n%+v", version, c, want)
		}
	}
}

func TestParseControlRefuses(t *testing.T) {
	le := binary.LittleEndian
	cases := []struct {
		name   string
		change func(content []byte) []byte
		want   error
	}{
		{"empty", func(c []byte) []byte { return nil }, ErrControlDamaged},
		{"cut", func(c []byte) []byte { return c[:291] }, ErrControlDamaged},
		{"zeros", func(c []byte) []byte { return make([]byte, 8192) }, ErrControlVersion},
		{"flipped bit", func(c []byte) []byte { c[40] ^= 1; return c }, ErrControlDamaged},
		{"PostgreSQL 12", func(c []byte) []byte { le.PutUint32(c[8:], 1201); sealControl(c); return c }, ErrControlVersion},
		{"other byte order", func(c []byte) []byte { binary.BigEndian.PutUint32(c[8:], 1300); return c }, ErrControlVersion},
		{"checksum at another format's place", func(c []byte) []byte { le.PutUint32(c[8:], 1800); return c }, ErrControlDamaged},
		{"unknown state", func(c []byte) []byte { c[16] = 7; sealControl(c); return c }, ErrControlVersion},
		{"other layout", func(c []byte) []byte { c[208] ^= 1; sealControl(c); return c }, ErrControlVersion},
		{"segment size", func(c []byte) []byte { c[228] ^= 1; sealControl(c); return c }, ErrControlDamaged},
	}
	for _, c := range cases {
		if got, err := ParseControl(c.change(sampleControl(1300))); !errors.Is(err, c.want) || got != (Control{}) {
			t.Errorf("%s: %+v, %v; want %v", c.name, got, err, c.want)
		}
	}
}

func TestControlStateWords(t *testing.T) {
	if s := ControlState(9).String(); s != "unknown state 9" {
		t.Error(s)
	}
	for s := ControlStartingUp; s <= ControlInProduction; s++ {
		if s.Clean() != (s == ControlShutDown || s == ControlShutDownInRecovery) {
			t.Errorf("%s", s)
		}
	}
}
