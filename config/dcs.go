package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/quorate/quorate/fsm"
)

// ReadDCS decodes a document of the replicated configuration, YAML or JSON, and validates it. Keys that it leaves out
// have their defaults. An unknown key is an error with its line and the key that was probably meant.
func ReadDCS(doc []byte) (DCS, error) {
	top, err := parse(doc)
	if err != nil {
		return DCS{}, err
	}
	r := newReader(dcs+".", top)
	r.adapt()
	return r.shared()
}

// shared decodes and validates what adapt has made.
func (r *reader) shared() (DCS, error) {
	d := Default().Bootstrap.DCS
	r.decode(reflect.ValueOf(&d).Elem())
	if len(r.errs) == 0 {
		r.checkShared(d)
	}
	d.Warnings = r.said
	return d, r.invalid()
}

// Merge applies patch, YAML or JSON, to the document doc: what it names replaces what was, a null removes it (RFC 7396).
// Numbers and booleans may stand where a parameter's text is meant.
func Merge(doc string, patch []byte) (DCS, error) {
	edit, err := parse(patch)
	if err != nil {
		return DCS{}, err
	}
	if strings.TrimSpace(string(patch)) == "" {
		return DCS{}, Invalid{{Text: "the change names no key"}}
	}
	r := newReader(dcs+".", edit)
	r.adapt()
	var probe DCS
	if r.decode(reflect.ValueOf(&probe).Elem()); len(r.errs) > 0 { // with the lines of the patch
		return DCS{}, r.invalid()
	}
	base, err := parse([]byte(doc))
	if err != nil {
		return DCS{}, fmt.Errorf("read the present configuration: %w", err)
	}
	base.unplaced()
	base.conceal(dcs)
	r.top = merge(base, edit)
	return r.shared()
}

// unplaced forgets the lines, which mean nothing to who did not write them.
func (m *item) unplaced() {
	m.line = 0
	for _, e := range m.items {
		e.unplaced()
	}
	for _, p := range m.pairs {
		p.line = 0
		p.value.unplaced()
	}
}

func merge(base, edit *item) *item {
	if edit.kind != mapping {
		return edit
	}
	out := &item{kind: mapping, line: edit.line}
	if base.kind == mapping {
		out.pairs = slices.Clone(base.pairs)
	}
	for _, p := range edit.pairs {
		was := &item{}
		if there := out.find(p.key); there != nil {
			was = there.value
			out.remove(p.key)
		}
		if p.value.kind != absent {
			out.pairs = append(out.pairs, &pair{key: p.key, line: p.line, was: p.was, value: merge(was, p.value)})
		}
	}
	return out
}

// Doc renders the document as it is replicated: JSON, one form for equal content.
func (d DCS) Doc() (string, error) {
	b, err := json.Marshal(d)
	if err != nil {
		return "", fmt.Errorf("encode the configuration: %w", err)
	}
	return string(b), nil
}

// YAML renders the document for people, ReadDCS reads it back.
func (d DCS) YAML() (string, error) {
	doc, err := d.Doc()
	if err != nil {
		return "", err
	}
	b, err := yaml.JSONToYAML([]byte(doc))
	if err != nil {
		return "", fmt.Errorf("render the configuration: %w", err)
	}
	return string(b), nil
}

// Settings are what the rules read of the document. This is the only place that derives them.
func (d DCS) Settings() fsm.Settings {
	return fsm.Settings{
		FailoverAfterMS: time.Duration(d.FailoverAfter).Milliseconds(), Durability: d.Durability, Strict: d.Strict, MaximumLag: d.MaximumLag,
	}
}

// OwnedParameters are those that quorate sets itself (DETAILS 25); a user's value would be overridden without a word.
func OwnedParameters() []string {
	return []string{
		"allow_alter_system", "cluster_name", "config_file", "data_directory", "external_pid_file", "hba_file", "hot_standby", "ident_file",
		"listen_addresses", "max_replication_slots", "max_wal_senders", "port", "primary_conninfo", "primary_slot_name",
		"promote_trigger_file", "recovery_target", "recovery_target_action", "recovery_target_inclusive", "recovery_target_lsn",
		"recovery_target_name", "recovery_target_time", "recovery_target_timeline", "recovery_target_xid", "restart_after_crash",
		"restore_command", "synchronous_standby_names", "unix_socket_directories", "wal_level", "wal_log_hints", "wal_retrieve_retry_interval",
	}
}
