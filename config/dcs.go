package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/quorate/quorate/fsm"
)

// ReadDCS decodes a document of the replicated configuration, YAML or JSON, and validates it. Keys that it leaves out
// have their defaults. An unknown key is an error with its line and the key that was probably meant.
func ReadDCS(doc []byte) (DCS, error) {
	d := Default().Bootstrap.DCS
	if err := decodeStrict(doc, &d); err != nil {
		return DCS{}, err
	}
	d.PostgreSQL.Parameters = lowered(d.PostgreSQL.Parameters)
	if err := d.Validate(); err != nil {
		return DCS{}, err
	}
	return d, nil
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

// Validate checks every key and the keys against each other, and returns all that is wrong at once.
func (d DCS) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if fa := time.Duration(d.FailoverAfter); fa < minFailoverAfter || fa > maxFailoverAfter {
		bad("failover_after %s: it is between %s and %s", fa, minFailoverAfter, maxFailoverAfter)
	}
	if d.Durability != fsm.DurabilityQuorum && d.Durability != fsm.DurabilityAsync {
		bad("durability %q: it is quorum or async", d.Durability)
	}
	if d.MaximumLag < 0 {
		bad("maximum_lag_on_failover %d: it is bytes, at least 0", d.MaximumLag)
	}
	if d.Strict && d.Durability == fsm.DurabilityAsync {
		bad("strict: true and durability: async contradict each other: commits can't wait for copies that nobody asks for")
	}
	errs = append(errs, validateParameters(d.PostgreSQL.Parameters)...)
	return errors.Join(append(errs, validateHBA(d.PostgreSQL.PgHBA)...)...)
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

var parameterName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$`)

// counted are the parameters that a standby must have at least as high as its primary, with their least values. They are
// compared as numbers, so they must be ones.
func counted() map[string]int {
	return map[string]int{"max_connections": 1, "max_prepared_transactions": 0, "max_locks_per_transaction": 10, "max_worker_processes": 0}
}

const maxCounted = 262143 // Postgres's own limit for connections, backends and workers

func validateParameters(set map[string]string) []error {
	var errs []error
	number := func(name string) (int, bool) {
		n, err := strconv.Atoi(set[name])
		return n, err == nil
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		switch least, isCount := counted()[name]; {
		case slices.Contains(OwnedParameters(), strings.ToLower(name)):
			errs = append(errs, fmt.Errorf("postgresql parameter %s is set by quorate itself: remove it", name))
		case !parameterName.MatchString(strings.ToLower(name)) || strings.ContainsAny(set[name], "\n\r\x00"):
			errs = append(errs, fmt.Errorf("postgresql parameter %q = %q is not a setting on one line", name, set[name]))
		case isCount:
			if n, ok := number(name); !ok || n < least || n > maxCounted {
				errs = append(errs, fmt.Errorf("postgresql parameter %s is %q: it is a whole number from %d to %d", name, set[name], least, maxCounted))
			}
		}
	}
	limit, limited := number("max_connections")
	reserved := 0
	for _, name := range []string{"superuser_reserved_connections", "reserved_connections"} {
		n, _ := number(name)
		reserved += n
	}
	if limited && reserved >= limit {
		errs = append(errs, fmt.Errorf("max_connections %d leaves nothing beside %d reserved connections: Postgres would not start", limit, reserved))
	}
	return errs
}

// validateHBA looks for what would keep Postgres from starting at all; the fine points are checked by Postgres itself.
func validateHBA(lines []string) []error {
	kinds := []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
	var errs []error
	for n, line := range lines {
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case strings.ContainsAny(line, "\n\r\x00"):
			errs = append(errs, fmt.Errorf("postgresql.pg_hba entry %d %q is not one line", n+1, line))
		case !slices.Contains(kinds, fields[0]):
			errs = append(errs, fmt.Errorf("postgresql.pg_hba entry %d %q begins with none of %s", n+1, line, strings.Join(kinds, ", ")))
		case len(fields) < 4 || fields[0] != "local" && len(fields) < 5:
			errs = append(errs, fmt.Errorf("postgresql.pg_hba entry %d %q lacks fields: TYPE DATABASE USER [ADDRESS] METHOD", n+1, line))
		}
	}
	return errs
}

// lowered gives the parameters the names that Postgres, which ignores their case, shows.
func lowered(set map[string]string) map[string]string {
	if set == nil {
		return nil
	}
	out := make(map[string]string, len(set))
	for name, value := range set {
		out[strings.ToLower(name)] = value
	}
	return out
}

// decodeStrict reads YAML over the values in into. Its errors have line and column; for an unknown key also the nearest.
func decodeStrict(b []byte, into any) error {
	if strings.TrimSpace(string(b)) == "" {
		return nil
	}
	err := yaml.UnmarshalWithOptions(b, into, yaml.Strict())
	if err == nil {
		return nil
	}
	hint := ""
	var unknown *yaml.UnknownFieldError
	if errors.As(err, &unknown) && unknown.Token != nil {
		if near := nearest(unknown.Token.Value, keys(reflect.TypeOf(into).Elem())); near != "" {
			hint = fmt.Sprintf("\ndid you mean %q?", near)
		}
	}
	return fmt.Errorf("decode: %s%s", yaml.FormatError(err, false, true), hint)
}

// keys lists the yaml keys of a struct and of those in it.
func keys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, f.Tag.Get("yaml"))
		if f.Type.Kind() == reflect.Struct {
			out = append(out, keys(f.Type)...)
		}
	}
	return out
}

// nearest is the key with the fewest changes from word, empty if that is no misspelling of it.
func nearest(word string, of []string) string {
	best, fewest := "", max(1, len(word)/3)+1
	for _, k := range of {
		if d := changes(word, k); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// changes counts the letters to insert, remove or replace between a and b.
func changes(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(diagonal+cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// Merge applies patch, YAML or JSON, to the document doc: what it names replaces what was, a null removes it (RFC 7396).
// Numbers and booleans may stand where a parameter's text is meant.
func Merge(doc string, patch []byte) (DCS, error) {
	var probe DCS
	if err := decodeStrict(patch, &probe); err != nil {
		return DCS{}, err
	}
	text, err := yaml.YAMLToJSON(patch)
	if err != nil {
		return DCS{}, fmt.Errorf("decode: %s", yaml.FormatError(err, false, true))
	}
	var base, edit any
	for _, part := range []struct {
		text []byte
		into *any
	}{{[]byte(doc), &base}, {text, &edit}} {
		d := json.NewDecoder(bytes.NewReader(part.text))
		d.UseNumber()
		if err := d.Decode(part.into); err != nil {
			return DCS{}, fmt.Errorf("decode: %w", err)
		}
	}
	if _, ok := edit.(map[string]any); !ok {
		return DCS{}, fmt.Errorf("the change %q names no key", patch)
	}
	merged, err := json.Marshal(merge(base, edit))
	if err != nil {
		return DCS{}, fmt.Errorf("encode the configuration: %w", err)
	}
	return ReadDCS(merged)
}

func merge(base, edit any) any {
	changes, ok := edit.(map[string]any)
	if !ok {
		return edit
	}
	out, ok := base.(map[string]any)
	if !ok {
		out = map[string]any{}
	}
	for k, v := range changes {
		k = strings.ToLower(k) // as the document has them all
		if v == nil {
			delete(out, k)
		} else {
			out[k] = merge(out[k], v)
		}
	}
	return out
}
