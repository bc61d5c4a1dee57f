package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Patroni's requests that change something. Their codes are Patroni's, and so are those texts that scripts look for; what is
// refused says more than Patroni does.

// say answers with a text. It is plain, because names that a caller sent may be in it.
func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // As in problem.
}

// object reads the JSON object in the body into v. Where that may be left out, so may all that is in it. false: the request
// was answered.
func object(w http.ResponseWriter, r *http.Request, optional bool, v any) bool {
	if r.ContentLength == 0 {
		if optional {
			return true
		}
		if r.Header.Get("Content-Length") == "" {
			say(w, http.StatusLengthRequired, "the request has no body")
			return false
		}
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && len(strings.TrimSpace(string(body))) == 0 && optional {
		return true
	}
	var fields map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(body, &fields)
	}
	if err == nil && len(fields) == 0 && !optional {
		err = errors.New("it is empty")
	}
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		say(w, http.StatusBadRequest, "the body is not the JSON object that is wanted: "+err.Error())
		return false
	}
	return true
}

// unanswered turns an error of Node.Submit into what Patroni answers when its store refuses or can't be reached.
func unanswered(err error) (status int, text string) {
	switch {
	case errors.Is(err, ErrDocument), errors.Is(err, fsm.ErrInvalid):
		return http.StatusBadRequest, err.Error()
	case errors.Is(err, fsm.ErrStaleConfig), errors.Is(err, fsm.ErrExists):
		return http.StatusConflict, err.Error()
	case errors.Is(err, fsm.ErrPaused), errors.Is(err, fsm.ErrNotElectable), errors.Is(err, fsm.ErrNotMember),
		errors.Is(err, fsm.ErrStaleEpoch):
		return http.StatusPreconditionFailed, err.Error()
	}
	return http.StatusServiceUnavailable, err.Error()
}

// scheduled checks the time that something is asked to be done at. Nothing is kept to be done later: what a cluster may do
// then can only be judged then, and who asks then gets an answer.
func scheduled(at, what string, now time.Time) (status int, text string) {
	moment, zoned := time.Time{}, false
	for _, layout := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if t, err := time.Parse(layout+"Z07:00", at); err == nil {
			moment, zoned = t, true
			break
		}
		if t, err := time.Parse(layout, at); err == nil {
			moment = t
		}
	}
	const like = "as in 2030-01-02T15:04:05+00:00"
	switch {
	case !zoned && !moment.IsZero():
		return http.StatusBadRequest, "the time of a scheduled " + what + " needs its zone, " + like
	case !zoned:
		return http.StatusUnprocessableEntity, "the time of a scheduled " + what + " can't be read; write it " + like
	case moment.Before(now):
		return http.StatusUnprocessableEntity, "the time of a scheduled " + what + " is in the past"
	}
	return http.StatusNotImplemented, "quorate schedules nothing: ask for the " + what + " at that time, as by a systemd timer"
}

// failsafe: quorate has no such mode and needs none. A primary that loses the quorum may not go on because others answer.
func (s *Server) failsafe(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusBadGateway, "the failsafe mode is off: quorate has none")
}

func (s *Server) deleteRestart(w http.ResponseWriter, _ *http.Request) {
	say(w, http.StatusNotFound, "no restarts are scheduled")
}
