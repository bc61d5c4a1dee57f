package history

// Kind is what an attempt on a register wanted.
type Kind string

// The kinds.
const (
	Get  Kind = "read"
	Put  Kind = "write"
	Swap Kind = "cas" // New, if Old is there
)

// Access is one attempt to read or change a register. A register that nobody has written holds 0.
type Access struct {
	Key     int64   `json:"key"`
	Kind    Kind    `json:"kind"`
	Old     int64   `json:"old,omitempty"`
	New     int64   `json:"new,omitempty"`
	Got     int64   `json:"got,omitempty"`     // read: what was there
	Swapped bool    `json:"swapped,omitempty"` // cas: Old was there
	Client  int     `json:"client"`
	Node    string  `json:"node"` // who answered
	Start   int64   `json:"start"`
	End     int64   `json:"end"`
	Outcome Outcome `json:"outcome"`
	Why     string  `json:"why,omitempty"`
}

// Sight is what a reader saw of the load's writes on one node: all of them from the id From on.
type Sight struct {
	Node    string  `json:"node"`
	Primary bool    `json:"primary"` // the server was in no recovery
	From    int64   `json:"from"`
	IDs     []int64 `json:"ids"` // sorted
	Start   int64   `json:"start"`
	End     int64   `json:"end"`
}
