package nemesis

import "slices"

// Shape is how a network is cut.
type Shape string

// The shapes. Who stands first depends on how far the order of nodes is turned.
const (
	Full     Shape = "full"     // the first from all others, both ways
	Deaf     Shape = "deaf"     // the first hears nobody, and is heard
	Mute     Shape = "mute"     // nobody hears the first, who hears all
	Ring     Shape = "ring"     // everyone hears the next ones as far as a majority goes, and no two the same majority
	Bridge   Shape = "bridge"   // two halves that only the first is in touch with
	Halves   Shape = "halves"   // two halves
	Alone    Shape = "alone"    // nobody hears anybody
	Postgres Shape = "postgres" // between the first and all others the port of Postgres
	Cluster  Shape = "cluster"  // between the first and all others the port of beats, log and gossip

	// With these only a share of all packets is dropped, which the step says.
	Lossy      Shape = "lossy"            // between the first and all others, both ways
	Everywhere Shape = "lossy everywhere" // between any two
)

// shapes are those for so many nodes: halves of three are the same as full, and there is no bridge between one and nobody.
func shapes(nodes int) []Shape {
	all := []Shape{Full, Deaf, Mute, Ring, Alone, Postgres, Cluster}
	if nodes >= 3 {
		all = append(all, Bridge)
	}
	if nodes >= 4 {
		all = append(all, Halves)
	}
	return all
}

// Drop says that the node At drops what comes from the nodes From; Port restricts that to one of its own ports and to answers
// from the same port of theirs.
type Drop struct {
	At   string
	From []string
	Port Port
	Loss int // that many packets of a hundred, chosen at random; 0: all
}

// Port names one port of a node; "" is all.
type Port string

// The ports.
const (
	AnyPort      Port = ""
	PostgresPort Port = "postgres"
	ClusterPort  Port = "cluster"
)

// Drops returns how a step cuts a network of these nodes, which are turned so that the one of its seat is the first.
func Drops(s Step, nodes []string) []Drop {
	all := drops(s.Shape, s.Seat, nodes)
	for i := range all {
		all[i].Loss = s.N
	}
	return all
}

func drops(s Shape, turn int, nodes []string) []Drop {
	n := len(nodes)
	if n < 2 {
		return nil
	}
	turn %= n
	nodes = slices.Concat(nodes[turn:], nodes[:turn])
	first, others := nodes[:1], nodes[1:]
	port := AnyPort
	switch s {
	case Postgres:
		port = PostgresPort
	case Cluster:
		port = ClusterPort
	}
	switch s {
	case Full, Lossy, Postgres, Cluster:
		return between(first, others, port)
	case Deaf:
		return deaf(first, others, port)
	case Mute:
		return deaf(others, first, port)
	case Bridge:
		half := (n - 1) / 2
		return between(others[:half], others[half:], port)
	case Halves:
		return between(nodes[:n/2], nodes[n/2:], port)
	case Alone, Ring, Everywhere:
		hears := 0 // how many of the next ones
		if s == Ring {
			hears = n / 2
		}
		var all []Drop
		for i, at := range nodes {
			after := slices.Concat(nodes[i+1:], nodes[:i])
			if hears < len(after) {
				all = append(all, Drop{At: at, From: slices.Clone(after[hears:])})
			}
		}
		return all
	}
	return nil
}

// deaf has each of some drop what comes from the others.
func deaf(some, others []string, port Port) (all []Drop) {
	if len(others) == 0 {
		return nil
	}
	for _, at := range some {
		all = append(all, Drop{At: at, From: slices.Clone(others), Port: port})
	}
	return all
}

func between(a, b []string, port Port) []Drop { return append(deaf(a, b, port), deaf(b, a, port)...) }
