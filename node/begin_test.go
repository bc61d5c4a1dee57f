package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/fsm"
)

// TestRefusedBy: what the cluster refuses is the API's refusal, and says so once.
func TestRefusedBy(t *testing.T) {
	for _, c := range []struct {
		err  error
		is   error
		says string
	}{
		{fmt.Errorf("%w: n1 is the primary", cluster.ErrUnfit), api.ErrRefused, "refused: n1 is the primary"},
		{fmt.Errorf("%w: no name", fsm.ErrInvalid), api.ErrRefused, "refused: " + fsm.ErrInvalid.Error() + ": no name"},
		{cluster.ErrNoLeader, api.ErrNoQuorum, api.ErrNoQuorum.Error() + ": " + cluster.ErrNoLeader.Error()},
	} {
		if err := refusedBy(c.err); !errors.Is(err, c.is) || !errors.Is(err, c.err) || err.Error() != c.says {
			t.Errorf("%v became %v, want %q", c.err, err, c.says)
		}
	}
	if err := refusedBy(nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
}
