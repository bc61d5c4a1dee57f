package pgctl

import "fmt"

// adopt begins the cluster with data that were here before.
func adopt(want Want, have Status) Step {
	switch {
	case want.Adopt == 0:
		return hold("appointed primary, and %s", unasked)
	case have.Dir.Mismatch != "" || have.Dir.Problem != "":
		s, _ := wrongData(want, have)
		return s
	case have.Dir.Control.SystemID != want.Adopt:
		return hold("the cluster is to begin with system %s, and the data directory has system %s", want.Adopt, have.Dir.Control.SystemID)
	case !want.LeaseLive:
		return wait("waiting for a lease")
	}
	s := Step{Kind: Adopt, Epoch: want.Epoch, SystemID: want.Adopt, Timeline: want.Target.Timeline,
		Because: "the cluster begins with these data"}
	if have.Dir.Server != 0 {
		s.Because += fmt.Sprintf("; the server that runs on them, pid %d, is restarted for that", have.Dir.Server)
	}
	return s
}

// unasked is what is said of data about which nobody has decided anything.
const unasked = "the data directory is neither empty nor this cluster's: move it away, or give postgresql.data_dir another one"

// takeIn decides about data that were here before the cluster on a node that is to be a standby. False: they are a copy like
// any other from here on.
func takeIn(want Want, have Status) (Step, bool) {
	switch {
	case have.Clone != nil && have.Clone.Running:
		return Step{}, false
	case !want.Keep && !want.Aside:
		return hold("%s", unasked), true
	case have.Dir.Server != 0:
		return hold("a server that quorate did not start, pid %d, runs on the data directory: end it and keep it from being started",
			have.Dir.Server), true
	case want.SystemID == 0:
		return wait("the primary has yet to open the data that the cluster begins with"), true
	case want.Keep:
		return Step{}, false
	case want.Upstream.Name == "":
		return wait("there is no primary to clone"), true
	}
	return Step{Kind: Clone, Upstream: want.Upstream,
		Because: "the cluster began with other data than these, which are kept under another name"}, true
}
