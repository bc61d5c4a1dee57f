package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/quorate/quorate/fsm"
)

// ErrNoQuorum says that nobody could take the command: there is no leader to reach, and nothing was changed.
var ErrNoQuorum = errors.New("no quorum")

// The codes of problems. A code never changes its meaning.
const (
	CodeInvalid   = "invalid"   // the request makes no sense
	CodeDenied    = "denied"    // the caller may not do this
	CodeRefused   = "refused"   // the cluster said no
	CodeNoQuorum  = "no-quorum" // there is no leader to ask
	CodeNotFound  = "not-found"
	CodeFailed    = "failed" // it was tried and the outcome is an error, or unknown
	CodeNoSuchAPI = "no-such-path"
)

// Problem is an RFC 9457 problem document.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// Error is the detail, for people.
func (p Problem) Error() string {
	if p.Detail == "" {
		return p.Title
	}
	return p.Detail
}

func problem(w http.ResponseWriter, status int, code, detail string) {
	body, err := json.Marshal(Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: detail, Code: code})
	if err != nil {
		http.Error(w, detail, status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // The client has gone when this fails, so nobody is left to tell.
}

// failed answers for an error of Node.Submit.
func failed(w http.ResponseWriter, err error) {
	for _, refusal := range []error{
		fsm.ErrNoCluster, fsm.ErrStaleRev, fsm.ErrStaleEpoch, fsm.ErrNotMember, fsm.ErrNotElectable, fsm.ErrPaused,
		fsm.ErrExists, fsm.ErrNoWish,
	} {
		if errors.Is(err, refusal) {
			problem(w, http.StatusConflict, CodeRefused, err.Error())
			return
		}
	}
	switch {
	case errors.Is(err, fsm.ErrInvalid):
		problem(w, http.StatusBadRequest, CodeInvalid, err.Error())
	case errors.Is(err, ErrNoQuorum):
		problem(w, http.StatusServiceUnavailable, CodeNoQuorum, err.Error())
	default:
		problem(w, http.StatusInternalServerError, CodeFailed, err.Error())
	}
}

// answer writes v as JSON.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		problem(w, http.StatusInternalServerError, CodeFailed, "encode the answer: "+err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // As above.
}
