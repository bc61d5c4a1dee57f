package cluster

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/transport"
)

func TestKnownErrorsCrossTheWire(t *testing.T) {
	codes := map[string]bool{}
	for _, w := range wireErrors() {
		if codes[w.code] {
			t.Errorf("code %q twice", w.code)
		}
		codes[w.code] = true
		here := fmt.Errorf("epoch 7: %w", w.err)
		sent := toWire(here)
		there := fromWire(fmt.Errorf("call submit at n1:7400: %w", sent))
		if !errors.Is(there, w.err) {
			t.Errorf("%q arrived as %v", w.code, there)
		}
		if there.Error() != here.Error() {
			t.Errorf("%q said %q, arrived as %q", w.code, here, there)
		}
	}
	strange := &transport.RemoteError{Code: "from-the-future", Message: "x"}
	if got := fromWire(strange); got != error(strange) {
		t.Errorf("an unknown code became %v", got)
	}
}
