package api

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// TestALossIsAcceptedByWhoHasSeenIt: the first answer says what would be lost and gives the token; with it, and with nothing
// else, the node is appointed.
func TestALossIsAcceptedByWhoHasSeenIt(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	for _, path := range []string{"/failover", "/v1/failover"} {
		synctest.Test(t, func(t *testing.T) {
			node := changeStates(t)["lone"]
			s := changeServer(node)
			body := func(token string) string {
				name := map[string]string{"/failover": "candidate", "/v1/failover": "to"}[path]
				return fmt.Sprintf(`{%q: "n2", "accept_data_loss": %q}`, name, token)
			}
			w := send(s, http.MethodPost, path, body(""), json)
			told := regexp.MustCompile(`quorate failover n2 --accept-data-loss ([0-9a-f]{20})`).FindStringSubmatch(w.Body.String())
			if w.Code != 412 || told == nil || !strings.Contains(w.Body.String(), "missing: n1") {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if w := send(s, http.MethodPost, path, body("00ff"), json); w.Code != 412 || !strings.Contains(w.Body.String(), told[1]) {
				t.Fatalf("another token: %d %s", w.Code, w.Body)
			}
			if wish := node.State().Wish; wish != nil {
				t.Fatalf("a refusal has recorded %+v", wish)
			}
			w = send(s, http.MethodPost, path, body(told[1]), json)
			if w.Code != 200 || !strings.Contains(w.Body.String(), "Successfully failed over to") || node.State().Primary != "n2" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestWhatIsAcceptedGoesToTheLog as what it is, with the token.
func TestWhatIsAcceptedGoesToTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := changeStates(t)["lone"].(obeying).fake
		position := fsm.Position{Node: "n2", Detached: 8, Timeline: 2, LSN: end}
		token := fsm.LossToken("c", 8, "n2", []fsm.Position{position})
		w := send(changeServer(f), http.MethodPost, "/failover", `{"candidate":"n2","accept_data_loss":"`+token+`"}`, nil)
		wish := f.State().Wish
		if w.Code != 503 || wish == nil || wish.Kind != fsm.WishFailover || wish.To != "n2" || wish.Loss != token || wish.Epoch != 8 {
			t.Errorf("%d %s, %+v", w.Code, w.Body, wish)
		}
	})
}

// TestFailoverProblems: the codes by which the command line ends.
func TestFailoverProblems(t *testing.T) {
	json := http.Header{"Content-Type": {"application/json"}}
	for _, c := range []struct {
		state, body string
		status      int
		code        string
	}{
		{"healthy", `{"to":"n2"}`, 200, ""},
		{"healthy", `{}`, 400, CodeInvalid},
		{"healthy", `{"to":"n9"}`, 412, CodeRefused},
		{"healthy", `{"to":"n2","accept_data_loss":"00ff"}`, 412, CodeRefused},
		{"healthy", `{"to":"n2","force":true}`, 400, CodeInvalid},
		{"paused", `{"to":"n2"}`, 412, CodeRefused},
		{"ignored", `{"to":"n2"}`, 503, CodeFailed},
		{"no-quorum", `{"to":"n2"}`, 503, CodeNoQuorum},
		{"no-quorum", `{"to":"n2","accept_data_loss":"00ff"}`, 503, CodeNoQuorum},
		{"no-cluster", `{"to":"n2"}`, 503, CodeNoQuorum},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := send(changeServer(changeStates(t)[c.state]), http.MethodPost, "/v1/failover", c.body, json)
			if w.Code != c.status {
				t.Fatalf("%s %s: %d %s", c.state, c.body, w.Code, w.Body)
			}
			if p := decoded[Problem](t, w); c.status != 200 && p.Code != c.code {
				t.Errorf("%s %s: %+v", c.state, c.body, p)
			}
		})
	}
}

// TestWhatIsNotKnownIsNotSaidToBeNothing: what an operator reads before he accepts a loss has a number only where there is one.
func TestWhatIsNotKnownIsNotSaidToBeNothing(t *testing.T) {
	for want, c := range map[string]failover.Candidate{
		"nothing is known of its log":                                                                      {},
		"has log to 0/5000 on timeline 2, 0 bytes less than is known to exist":                             {LSN: 0x5000, Timeline: 2, Known: true},
		"has log to 0/5000 on timeline 2, 16 bytes less than is known to exist":                            {LSN: 0x5000, Timeline: 2, Known: true, Lacks: 16},
		"has log to 0/5000 on timeline 2; how much less than existed is not known":                         {LSN: 0x5000, Timeline: 2},
		"has log to 0/5000 on timeline 2, at least 16 bytes less than existed; how much less is not known": {LSN: 0x5000, Timeline: 2, Lacks: 16},
	} {
		if got := logOf(c); got != want {
			t.Errorf("%+v: %q, want %q", c, got, want)
		}
	}
}
