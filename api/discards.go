package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// discardsPath lists what nodes discarded; POST to an item's dismiss below it says that somebody looked at it.
const discardsPath = "/v1/discards"

// Discard is log that a node had, that was no part of the cluster's history, and that is kept aside on that node.
type Discard struct {
	ID        string      `json:"id"`
	Node      string      `json:"node"`
	Epoch     fsm.Epoch   `json:"epoch"` // whose timeline the node follows instead
	Timeline  pg.Timeline `json:"timeline"`
	From      pg.LSN      `json:"from"`
	To        pg.LSN      `json:"to"`
	Commits   int         `json:"commits"` // -1: could not be counted
	Way       string      `json:"way"`
	Path      string      `json:"path"` // on the node
	SHA256    string      `json:"sha256"`
	Lossy     bool        `json:"lossy"` // some of it may have been acknowledged, as durability async allows, or because an operator accepted that
	Dismissed bool        `json:"dismissed"`
}

func discards(st fsm.State, all bool) []Discard {
	out := []Discard{}
	for _, d := range st.Discards {
		if d.Dismissed && !all {
			continue
		}
		out = append(out, Discard{
			ID: d.ID, Node: st.Name(d.Node), Epoch: d.Epoch, Timeline: d.Timeline, From: d.From, To: d.To, Commits: d.Commits,
			Way: d.Way, Path: d.Path, SHA256: d.SHA256, Lossy: d.Lossy, Dismissed: d.Dismissed,
		})
	}
	return out
}

// listDiscards answers with all that are recorded, the dismissed ones too.
func (s *Server) listDiscards(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, discards(s.node.State(), true))
}

// discardOf takes the id out of /v1/discards/ID/dismiss.
func discardOf(path string) (id string, ok bool) {
	id, ok = strings.CutPrefix(path, discardsPath+"/")
	if !ok {
		return "", false
	}
	id, ok = strings.CutSuffix(id, "/dismiss")
	return id, ok && id != "" && !strings.Contains(id, "/")
}

func (s *Server) dismiss(w http.ResponseWriter, r *http.Request) {
	id, _ := discardOf("/" + strings.Trim(r.URL.Path, "/"))
	err := s.node.Submit(r.Context(), fsm.DismissDiscard{ID: id}, "operator")
	switch {
	case errors.Is(err, fsm.ErrNoDiscard):
		problem(w, http.StatusNotFound, CodeNotFound, err.Error()+"; quorate discards list shows all")
	case err != nil:
		failed(w, err)
	default:
		answer(w, http.StatusOK, struct {
			ID        string `json:"id"`
			Dismissed bool   `json:"dismissed"`
		}{id, true})
	}
}
