package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/memberlist"
)

// sealOverhead is what a sealed packet is longer: the nonce and the tag.
const sealOverhead = 12 + 16

var errOtherKey = errors.New("none of the keys fits")

// sealer encrypts packets with the first key and reads what any of them encrypted, by AES-GCM with a random nonce; the label
// in front stays readable and is authenticated. Without keys it does nothing. memberlist could do it, but then nobody could
// look at what it is about to decode.
type sealer struct{ keys atomic.Pointer[[]cipher.AEAD] }

func (s *sealer) set(keys [][]byte) error {
	var all []cipher.AEAD
	for _, k := range keys {
		block, err := aes.NewCipher(k)
		if err != nil {
			return fmt.Errorf("take gossip key: %w", err)
		}
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return fmt.Errorf("take gossip key: %w", err)
		}
		all = append(all, aead)
	}
	s.keys.Store(&all)
	return nil
}

// encrypts says whether there are keys.
func (s *sealer) encrypts() bool { return len(*s.keys.Load()) > 0 }

// seal encrypts what is behind the label.
func (s *sealer) seal(packet []byte) ([]byte, error) {
	if !s.encrypts() {
		return packet, nil
	}
	plain, _, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil {
		return nil, err
	}
	label, nonce := packet[:len(packet)-len(plain)], make([]byte, 12)
	_, _ = rand.Read(nonce) // It never fails.
	out := append(append(make([]byte, 0, len(packet)+sealOverhead), label...), nonce...)
	return (*s.keys.Load())[0].Seal(out, nonce, plain, label), nil
}

// open gives the packet as it was before seal.
func (s *sealer) open(packet []byte) ([]byte, error) {
	if !s.encrypts() {
		return packet, nil
	}
	sealed, _, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil {
		return nil, err
	}
	label := packet[:len(packet)-len(sealed)]
	if len(sealed) < sealOverhead {
		return nil, errOtherKey
	}
	for _, key := range *s.keys.Load() {
		out := append(make([]byte, 0, len(packet)), label...)
		if out, err := key.Open(out, sealed[:12], sealed[12:], label); err == nil {
			return out, nil
		}
	}
	return nil, errOtherKey
}
