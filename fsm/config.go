package fsm

import "fmt"

const (
	maxDoc     = 1 << 15 // bytes of the configuration document, which every snapshot carries
	maxConfigs = 10      // earlier documents that are kept
)

// ConfigVersion is an earlier configuration document.
type ConfigVersion struct {
	Version uint64 `json:"version"`
	Doc     string `json:"doc"`
}

// EditConfig replaces the configuration document and what it says of Settings (Version only: what Settings lets happen to
// the sync rule needs a SetSync of its own).
type EditConfig struct {
	IfVersion uint64   `json:"if_version"` // the version that was edited
	Doc       string   `json:"doc"`
	Settings  Settings `json:"settings"`
}

// Kind is "edit-config".
func (EditConfig) Kind() string { return "edit-config" }

func (EditConfig) nature() nature { return footnote() }

func (c EditConfig) apply(next *State) (string, error) {
	now := next.Config
	switch {
	case c.IfVersion != now.Version:
		return "", fmt.Errorf("%w: version %d was edited, now it is %d: read it again", ErrStaleConfig, c.IfVersion, now.Version)
	case len(c.Doc) > maxDoc:
		return "", fmt.Errorf("%w: the configuration has %d bytes, at most %d are allowed", ErrInvalid, len(c.Doc), maxDoc)
	case c.Settings.FailoverAfterMS != now.Settings.FailoverAfterMS:
		// The model lets the length of a lease change (docs/model/lease, ldata-), but not everything here could: a leader waits
		// for an electorate to be shown by the present value, and a guard has the one that its node was founded with.
		return "", fmt.Errorf("%w: failover_after is %d ms and can't be changed in a running cluster (asked for: %d ms)", ErrInvalid,
			now.Settings.FailoverAfterMS, c.Settings.FailoverAfterMS)
	}
	if err := c.Settings.check(); err != nil {
		return "", err
	}
	next.Config = Config{Version: now.Version + 1, Doc: c.Doc, Settings: c.Settings}
	next.Config.Earlier = keepLast(append(now.Earlier, ConfigVersion{Version: now.Version, Doc: now.Doc}), maxConfigs)
	return fmt.Sprintf("configuration version %d", next.Config.Version), nil
}
