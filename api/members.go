package api

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/quorate/quorate/fsm"
)

// Membership is what a node does about who belongs to the cluster. A nil function is one that it can't do now: Init and Join
// are for a node that belongs to no cluster, the others for one that does. Errors: ErrRefused, ErrNoQuorum.
type Membership struct {
	Init   func(ctx context.Context, r InitRequest) error
	Join   func(ctx context.Context, r JoinRequest) error
	Token  func() (string, error) // with which others join; it holds the cluster's secret
	Remove func(ctx context.Context, r RemoveRequest) error
}

// InitRequest is the body of POST /v1/init, which only the unix socket takes. AdoptFrom names the node whose data directory the
// cluster shall begin with; empty: what is there decides.
type InitRequest struct {
	AdoptFrom string `json:"adopt_from,omitempty"`
}

// JoinRequest is the body of POST /v1/join, which only the unix socket takes.
type JoinRequest struct {
	Token   string   `json:"token"`
	Hosts   []string `json:"hosts,omitempty"` // host or host:port of members, asked before those that the token names
	Replace bool     `json:"replace,omitempty"`
}

// RemoveRequest is the body of POST /v1/members/remove.
type RemoveRequest struct {
	Name     string `json:"name"`
	LastCopy bool   `json:"last_copy,omitempty"`
	Replace  bool   `json:"replace,omitempty"` // the node is lost: refused while it is heard
}

// Token is the answer to POST /v1/token, which only the unix socket takes.
type Token struct {
	Token string   `json:"token"`
	Hosts []string `json:"hosts"` // where members listen
}

// Member is one line of GET /v1/members.
type Member struct {
	Name     string     `json:"name"`
	ID       fsm.NodeID `json:"id"`
	Role     fsm.Role   `json:"role"`
	Addr     string     `json:"addr"`
	Postgres string     `json:"postgres,omitempty"`
	API      string     `json:"api,omitempty"`
	Voter    bool       `json:"voter"`
	NoVote   bool       `json:"no_vote,omitempty"`
	Leaving  bool       `json:"leaving,omitempty"`
	Primary  bool       `json:"primary,omitempty"`
	Leader   bool       `json:"leader,omitempty"`
	InSync   bool       `json:"in_sync,omitempty"`
	Major    int        `json:"postgresql,omitempty"`
	Heard    bool       `json:"heard"`
}

func (s *Server) members(w http.ResponseWriter, _ *http.Request) {
	f, leader, out := s.facts(), s.node.Leader(), []Member{}
	for id, m := range f.state.Members {
		seen, known := f.seen[id]
		out = append(out, Member{
			Name: m.Name, ID: id, Role: m.Role, Addr: m.Addr, Postgres: m.Postgres, API: m.API, Voter: f.state.Electorate.Has(id),
			NoVote: m.NoVote, Leaving: m.Leaving, Primary: id == f.state.Primary, Leader: id == leader, InSync: f.state.Sync.Has(id),
			Major: m.Major, Heard: id == f.self || known && f.heard(seen),
		})
	}
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	answer(w, http.StatusOK, out)
}

func (s *Server) initCluster(w http.ResponseWriter, r *http.Request) {
	var req InitRequest
	if !decode(w, r, &req) {
		return
	}
	if s.opts.Members.Init == nil {
		problem(w, http.StatusConflict, CodeRefused, s.belongs())
		return
	}
	settle(w, s.opts.Members.Init(r.Context(), req))
}

func (s *Server) joinCluster(w http.ResponseWriter, r *http.Request) {
	var req JoinRequest
	if !decode(w, r, &req) {
		return
	}
	if s.opts.Members.Join == nil {
		problem(w, http.StatusConflict, CodeRefused, s.belongs())
		return
	}
	settle(w, s.opts.Members.Join(r.Context(), req))
}

func (s *Server) belongs() string {
	if s.node.State().ClusterID == "" {
		return "the node file names cluster.peers, which begin a cluster by themselves: take them out, restart the daemon, then join"
	}
	return fmt.Sprintf("this node belongs to cluster %s (%s) already", s.opts.Scope, s.node.State().ClusterID)
}

func (s *Server) token(w http.ResponseWriter, _ *http.Request) {
	if s.opts.Members.Token == nil {
		problem(w, http.StatusConflict, CodeRefused, "this node belongs to no cluster yet")
		return
	}
	text, err := s.opts.Members.Token()
	if err != nil {
		failed(w, err)
		return
	}
	out := Token{Token: text}
	for _, m := range s.node.State().Members {
		out.Hosts = append(out.Hosts, m.Addr)
	}
	slices.Sort(out.Hosts)
	answer(w, http.StatusOK, out)
}

func (s *Server) removeMember(w http.ResponseWriter, r *http.Request) {
	var req RemoveRequest
	if !decode(w, r, &req) {
		return
	}
	settle(w, s.opts.Members.Remove(r.Context(), req))
}

// decode reads the body strictly; false: it has answered already.
func decode(w http.ResponseWriter, r *http.Request, into any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		problem(w, http.StatusBadRequest, CodeInvalid, "the body is not what is expected: "+err.Error())
		return false
	}
	return true
}

// settle answers a request that either was done or was not.
func settle(w http.ResponseWriter, err error) {
	switch {
	case err == nil:
		answer(w, http.StatusOK, struct{}{})
	case errors.Is(err, ErrRefused):
		problem(w, http.StatusConflict, CodeRefused, err.Error())
	default:
		failed(w, err)
	}
}
