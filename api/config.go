package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/quorate/quorate/fsm"
)

// ErrDocument says that a configuration document can't be taken; the text names line, key, value and limit.
var ErrDocument = errors.New("the configuration can't be taken")

// ReadConfig makes the document that edit asks for: with merge present, changed by what edit names, else edit itself. It
// returns its replicated form and its settings, or ErrDocument. It may ask the postgres program, within ctx.
type ReadConfig func(ctx context.Context, present string, edit []byte, merge bool) (doc string, s fsm.Settings, err error)

// Config is one version of the replicated configuration.
type Config struct {
	Version uint64          `json:"version"`
	Doc     json.RawMessage `json:"doc"`
	// Settings are what the rules read of it; absent for earlier versions.
	Settings *fsm.Settings `json:"settings,omitempty"`
}

func present(s fsm.State) Config {
	return Config{Version: s.Config.Version, Doc: raw(s.Config.Doc), Settings: &s.Config.Settings}
}

// raw shows a document that is none as null instead of breaking the answer.
func raw(doc string) json.RawMessage {
	if !json.Valid([]byte(doc)) {
		return json.RawMessage("null")
	}
	return json.RawMessage(doc)
}

// versions lists all documents that are remembered, oldest first.
func versions(s fsm.State) []Config {
	out := []Config{}
	for _, c := range s.Config.Earlier {
		out = append(out, Config{Version: c.Version, Doc: raw(c.Doc)})
	}
	return append(out, present(s))
}

// config tells the present document, or the one of ?version=.
func (s *Server) config(w http.ResponseWriter, r *http.Request) {
	state := s.node.State()
	if state.ClusterID == "" {
		problem(w, http.StatusServiceUnavailable, CodeNoQuorum, "there is no cluster yet")
		return
	}
	out := present(state)
	if text := r.URL.Query().Get("version"); text != "" {
		version, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			problem(w, http.StatusBadRequest, CodeInvalid, fmt.Sprintf("version=%q is not a number", text))
			return
		}
		all := versions(state)
		found := false
		for _, c := range all {
			if c.Version == version {
				out, found = c, true
			}
		}
		if !found {
			problem(w, http.StatusNotFound, CodeNotFound, fmt.Sprintf("version %d is not remembered; versions %d to %d are", version, all[0].Version, state.Config.Version))
			return
		}
	}
	w.Header().Set("ETag", etag(out.Version))
	answer(w, http.StatusOK, out)
}

// configHistory lists the versions that are remembered, oldest first.
func (s *Server) configHistory(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, versions(s.node.State()))
}

// dynamicConfig is Patroni's path: the bare document.
func (s *Server) dynamicConfig(w http.ResponseWriter, _ *http.Request) {
	state := s.node.State()
	if state.ClusterID == "" {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	answer(w, http.StatusOK, withPause(state))
}

// editDynamicConfig answers Patroni's PATCH and PUT /config. A pause is no part of the document here, so it is asked for
// apart, after the rest was taken. PUT replaces all of the document: one without pause ends a pause.
func (s *Server) editDynamicConfig(w http.ResponseWriter, r *http.Request) {
	var body json.RawMessage
	if !object(w, r, false, &body) {
		return
	}
	err := s.tryDynamic(r.Context(), body, r.Method == http.MethodPatch)
	if err == nil {
		answer(w, http.StatusOK, withPause(s.node.State()))
		return
	}
	status, text := unanswered(err)
	if status == http.StatusServiceUnavailable && r.Method == http.MethodPut {
		status = http.StatusBadGateway
	}
	say(w, status, text)
}

func (s *Server) tryDynamic(ctx context.Context, body []byte, merge bool) error {
	rest, pause, left, err := splitPause(body)
	if err != nil {
		return err
	}
	if left || !merge {
		if err := s.edit(ctx, 0, rest, merge); err != nil {
			return err
		}
	}
	switch {
	case pause != nil:
		return s.pause(ctx, *pause, fsm.Resume{})
	case !merge: // The leader knows whether there is a pause to end; this node may not have heard of it yet.
		return s.pause(ctx, false, fsm.Resume{})
	}
	return nil
}

func etag(version uint64) string { return strconv.Quote(strconv.FormatUint(version, 10)) }

// ifMatch reads the version that the caller edited, from If-Match or version=; false: it names none.
func ifMatch(r *http.Request) (version uint64, given bool, err error) {
	text := strings.TrimSpace(r.Header.Get("If-Match"))
	if text == "" {
		text = r.URL.Query().Get("version")
	}
	if text == "" || text == "*" {
		return 0, text == "*", nil
	}
	version, err = strconv.ParseUint(strings.Trim(text, `"`), 10, 64)
	if err != nil || version == 0 {
		return 0, true, fmt.Errorf(`If-Match or version= %s is not the version of a configuration, such as "3"`, text)
	}
	return version, true, nil
}

// editTries is how often a change without If-Match is made again over somebody else's.
const editTries = 3

// editConfig answers PUT (the whole document, needs If-Match) and PATCH (a merge patch).
func (s *Server) editConfig(w http.ResponseWriter, r *http.Request) {
	merge := r.Method == http.MethodPatch
	version, given, err := ifMatch(r)
	switch {
	case err != nil:
		problem(w, http.StatusBadRequest, CodeInvalid, err.Error())
		return
	case !merge && !given:
		problem(w, http.StatusPreconditionRequired, CodeInvalid, "say by If-Match or version= which version you edited, or * for any; PATCH needs none")
		return
	}
	edit, err := io.ReadAll(r.Body)
	if err != nil {
		problem(w, http.StatusBadRequest, CodeInvalid, "read the document: "+err.Error())
		return
	}
	err = s.edit(r.Context(), version, edit, merge)
	switch {
	case err == nil:
		state := s.node.State()
		w.Header().Set("ETag", etag(state.Config.Version))
		answer(w, http.StatusOK, present(state))
	case errors.Is(err, ErrDocument):
		problem(w, http.StatusBadRequest, CodeInvalid, err.Error())
	case errors.Is(err, fsm.ErrStaleConfig):
		problem(w, http.StatusPreconditionFailed, CodeRefused, err.Error())
	default:
		failed(w, err)
	}
}

// edit puts a change of version, 0 for whatever is there, into the log, unless it changes nothing, and waits until this node
// shows it. One of whatever is there is made again when somebody else's came first.
func (s *Server) edit(ctx context.Context, version uint64, edit []byte, merge bool) error {
	for try := 1; ; try++ {
		now := s.configAt(ctx, version)
		err := s.tryEdit(ctx, now, version, edit, merge)
		if version != 0 || try >= editTries || !errors.Is(err, fsm.ErrStaleConfig) {
			return err
		}
		// This node may not have applied yet what the leader refused it for. As long as it has not, it would be refused again.
		if s.configAt(ctx, now.Version+1).Version <= now.Version {
			return err
		}
	}
}

// configAt waits until this node shows that version or a later one, and returns what it shows then.
func (s *Server) configAt(ctx context.Context, version uint64) fsm.Config {
	ctx, stop := context.WithTimeout(ctx, applied)
	defer stop()
	return s.await(ctx, func(st fsm.State) bool { return st.Config.Version >= version }).Config
}

func (s *Server) tryEdit(ctx context.Context, now fsm.Config, version uint64, edit []byte, merge bool) error {
	if version != 0 && version != now.Version {
		return fmt.Errorf("%w: version %d was edited, now it is %d: read it again", fsm.ErrStaleConfig, version, now.Version)
	}
	doc, settings, err := s.opts.ReadConfig(ctx, now.Doc, edit, merge)
	if err != nil {
		return err
	}
	if doc == now.Doc {
		return s.isNewest(ctx, now.Version)
	}
	if err := s.node.Submit(ctx, fsm.EditConfig{IfVersion: now.Version, Doc: doc, Settings: settings}, "config"); err != nil {
		return err
	}
	s.configAt(ctx, now.Version+1)
	return nil
}

// isNewest asks the leader whether version is the newest, before somebody is told that nothing needs to be changed.
func (s *Server) isNewest(ctx context.Context, version uint64) error {
	ctx, stop := context.WithTimeout(ctx, askLeader)
	defer stop()
	e, err := s.node.Explain(ctx)
	if err == nil && !e.Leading {
		err = errors.New("the leader does not answer")
	}
	if err != nil {
		return fmt.Errorf("%w: nothing would change here, but there may be a newer configuration: %w", ErrNoQuorum, err)
	}
	if newest := e.View.State.Config.Version; newest != version {
		return fmt.Errorf("%w: version %d was edited, now it is %d: read it again", fsm.ErrStaleConfig, version, newest)
	}
	return nil
}

// unconfigured lists what keeps nodes from running as the configuration says.
func unconfigured(nodes []NodeStatus, version uint64) []string {
	var list []string
	for _, n := range nodes {
		c := n.Config
		if !n.Heard {
			continue
		}
		if c.Refused != "" {
			list = append(list, fmt.Sprintf("%s: has configuration version %d, not %d: %s", n.Name, c.Version, version, c.Refused))
		}
		if len(c.Pending) > 0 {
			list = append(list, fmt.Sprintf("%s: a restart is pending for %s: quorate restart %s --pending", n.Name, strings.Join(c.Pending, ", "), n.Name))
		}
		for _, held := range c.Held {
			list = append(list, n.Name+": "+held)
		}
	}
	return list
}
