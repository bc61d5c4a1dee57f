package config

import (
	"slices"
	"strings"
)

// Fate is what becomes of one of Patroni's keys.
type Fate string

// The fates.
const (
	Used    Fate = "used"     // by quorate's key of the same name, or by Key.As
	Ignored Fate = "not used" // with one warning
	Refused Fate = "refused"  // quorate would do something else than the file asks for
)

// Key is one of Patroni's keys. A row of a section is for all that stands in it.
type Key struct {
	Path string // with its sections; * is any one name
	Fate Fate
	As   string // quorate's key, where its name is another
	Note string // what replaces it, that nothing is needed, or how it is understood
	// into makes quorate's value of Patroni's; nil: none is needed. A complaint is an error.
	into func(*item) (value *item, complaint string)
}

// dcs is where the shared configuration stands in a node file.
const dcs = "bootstrap.dcs"

// Keys is the table of all keys that Patroni knows, up to 4.2, by section. What is below bootstrap.dcs is so in a shared
// configuration as well. docs/patroni.md is made of it.
func Keys() []Key {
	return slices.Concat(nodeKeys, logKeys, apiKeys, bootstrapKeys, sharedKeys, postgresKeys, tagKeys)
}

const (
	byCluster  = "`cluster` takes its place: the nodes agree among themselves"
	byTiming   = "`failover_after`, by default 1s, takes its place"
	noNeed     = "nothing needed"
	ownMembers = "not used: name the members in allowlist; a request for another node is passed on from its own"
	noCiphers  = "not used: TLS 1.2 and later with the ciphers that Go takes for safe"
	toStderr   = "not used: the log goes to standard error, and what starts quorate keeps it"
	oneLog     = "not used: the log has one form (`log.type`)"
	cloned     = "not used: a standby is made by pg_basebackup from the primary"
	anyRole    = "not used: what the key without the role says holds in every role"
	noScript   = "not run: who wants to know asks `GET /primary` or `quorate history`"
	noSlots    = "not made and not carried over: only the slots of members are"
	noIdent    = "not written: pg_ident.conf has quorate's own map only"
)

var nodeKeys = []Key{
	{Path: "scope", Fate: Used},
	{Path: "name", Fate: Used,
		Note: "lower-case letters, digits, _ and -, a letter first: Postgres ignores case where it names standbys"},
	{Path: "namespace", Fate: Ignored, Note: noNeed + ": there is no store to share"},
	{Path: "site", Fate: Ignored, Note: "not used: quorate knows no sites"},
	{Path: "thread_pool_size", Fate: Ignored, Note: noNeed},
	{Path: "thread_stack_size", Fate: Ignored, Note: noNeed},
	{Path: "etcd", Fate: Ignored, Note: byCluster},
	{Path: "etcd3", Fate: Ignored, Note: byCluster},
	{Path: "consul", Fate: Ignored, Note: byCluster},
	{Path: "zookeeper", Fate: Ignored, Note: byCluster},
	{Path: "exhibitor", Fate: Ignored, Note: byCluster},
	{Path: "raft", Fate: Ignored, Note: byCluster},
	{Path: "kubernetes", Fate: Ignored, Note: byCluster + "; labels and endpoints are not kept"},
	{Path: "citus", Fate: Refused, Note: "a Citus cluster needs its coordinator told of every failover, which quorate does not do"},
	{Path: "watchdog", Fate: Ignored, Note: noNeed + ": the guard process fences, see `fencing`"},
	{Path: "ctl", Fate: Ignored, Note: noNeed + ": the commands reach the daemon by its unix socket"},
}

var logKeys = []Key{
	{Path: "log.level", Fate: Used, Note: "WARNING is warn, CRITICAL is error", into: logLevel},
	{Path: "log.type", Fate: Used, Note: "plain or json"},
	{Path: "log.traceback_level", Fate: Ignored, Note: noNeed},
	{Path: "log.format", Fate: Ignored, Note: oneLog},
	{Path: "log.dateformat", Fate: Ignored, Note: oneLog},
	{Path: "log.static_fields", Fate: Ignored, Note: oneLog},
	{Path: "log.max_queue_size", Fate: Ignored, Note: noNeed},
	{Path: "log.dir", Fate: Ignored, Note: toStderr},
	{Path: "log.mode", Fate: Ignored, Note: toStderr},
	{Path: "log.file_num", Fate: Ignored, Note: toStderr},
	{Path: "log.file_size", Fate: Ignored, Note: toStderr},
	{Path: "log.loggers", Fate: Ignored, Note: "not used: `log.level` holds for all"},
	{Path: "log.deduplicate_heartbeat_logs", Fate: Ignored, Note: noNeed + ": only what changes is logged"},
}

var apiKeys = []Key{
	{Path: "restapi.listen", Fate: Used, Note: "without a port: 8008"},
	{Path: "restapi.connect_address", Fate: Used},
	{Path: "restapi.authentication", Fate: Used},
	{Path: "restapi.certfile", Fate: Used},
	{Path: "restapi.keyfile", Fate: Used},
	{Path: "restapi.keyfile_password", Fate: Refused, Note: "an encrypted key can't be read: give one without a password, readable by quorate only"},
	{Path: "restapi.cafile", Fate: Used},
	{Path: "restapi.ciphers", Fate: Ignored, Note: noCiphers},
	{Path: "restapi.verify_client", Fate: Used},
	{Path: "restapi.allowlist", Fate: Used},
	{Path: "restapi.allowlist_include_members", Fate: Ignored, Note: ownMembers},
	{Path: "restapi.http_extra_headers", Fate: Ignored, Note: "not sent"},
	{Path: "restapi.https_extra_headers", Fate: Ignored, Note: "not sent"},
	{Path: "restapi.request_queue_size", Fate: Ignored, Note: noNeed},
	{Path: "restapi.server_tokens", Fate: Ignored, Note: noNeed},
	{Path: "restapi.thread_pool_size", Fate: Ignored, Note: noNeed},
}

var bootstrapKeys = []Key{
	{Path: "bootstrap.method", Fate: Used, Note: "`initdb` only; any other is refused", into: bootstrapMethod},
	{Path: "bootstrap.<method>", Fate: Ignored, Note: "not used: it belongs to a method of its own"},
	{Path: "bootstrap.initdb", Fate: Used,
		Note: "added to UTF8, C.UTF-8 and data checksums, which are the defaults", into: initdbOptions},
	{Path: "bootstrap.post_bootstrap", Fate: Ignored, Note: "not run: run it yourself when the first primary is up"},
	{Path: "bootstrap.post_init", Fate: Ignored, Note: "not run: run it yourself when the first primary is up"},
	{Path: "bootstrap.users", Fate: Ignored, Note: "not made: CREATE ROLE when the first primary is up"},
	{Path: "bootstrap.pg_hba", Fate: Used, As: dcs + ".postgresql.pg_hba"},
}

var sharedKeys = []Key{
	{Path: dcs + ".ttl", Fate: Ignored, Note: byTiming},
	{Path: dcs + ".loop_wait", Fate: Ignored, Note: byTiming},
	{Path: dcs + ".retry_timeout", Fate: Ignored, Note: byTiming},
	{Path: dcs + ".primary_race_backoff", Fate: Ignored, Note: noNeed + ": only a majority that hears nothing replaces a primary"},
	{Path: dcs + ".maximum_lag_on_failover", Fate: Used, Note: "bytes; it counts with `durability: async`"},
	{Path: dcs + ".maximum_lag_on_syncnode", Fate: Ignored,
		Note: noNeed + ": a commit waits for the quickest standbys, not for named ones"},
	{Path: dcs + ".check_timeline", Fate: Ignored, Note: noNeed + ": it is always checked"},
	{Path: dcs + ".max_timelines_history", Fate: Ignored, Note: noNeed},
	{Path: dcs + ".primary_start_timeout", Fate: Ignored, Note: byTiming},
	{Path: dcs + ".master_start_timeout", Fate: Ignored, Note: byTiming},
	{Path: dcs + ".primary_stop_timeout", Fate: Ignored, Note: noNeed + ": the guard kills what does not end"},
	{Path: dcs + ".master_stop_timeout", Fate: Ignored, Note: noNeed + ": the guard kills what does not end"},
	{Path: dcs + ".synchronous_mode", Fate: Used, As: dcs + ".durability",
		Note: "on and quorum are quorum, off is async", into: synchronousMode},
	{Path: dcs + ".synchronous_mode_strict", Fate: Used, As: dcs + ".strict"},
	{Path: dcs + ".synchronous_node_count", Fate: Ignored,
		Note: "not used: a commit waits for as many copies as follow from the number of data nodes, half and at least 2, the primary's counted"},
	{Path: dcs + ".failsafe_mode", Fate: Ignored, Note: noNeed + ": there is no store to lose"},
	{Path: dcs + ".pause", Fate: Ignored, Note: "not used: to pause is a command to a running cluster, and no setting"},
	{Path: dcs + ".member_slots_ttl", Fate: Ignored, Note: "not used: the slot of a member that is away is kept for 30 minutes"},
	{Path: dcs + ".slots", Fate: Ignored, Note: noSlots},
	{Path: dcs + ".permanent_slots", Fate: Ignored, Note: noSlots},
	{Path: dcs + ".permanent_replication_slots", Fate: Ignored, Note: noSlots},
	{Path: dcs + ".ignore_slots", Fate: Ignored, Note: noNeed + ": slots that are not of members are never dropped"},
	{Path: dcs + ".standby_cluster", Fate: Refused,
		Note: "a cluster that follows another one is not supported: this one would accept writes of its own"},
}

// postgresKeys are so in bootstrap.dcs.postgresql as well, but for those that are used and stand only in a node's file.
var postgresKeys = []Key{
	{Path: "postgresql.listen", Fate: Used, Note: "without a port: 5432; several addresses stand before one port"},
	{Path: "postgresql.connect_address", Fate: Used},
	{Path: "postgresql.proxy_address", Fate: Ignored, Note: "not shown to anybody"},
	{Path: "postgresql.data_dir", Fate: Used},
	{Path: "postgresql.bin_dir", Fate: Used, Note: "without it: the newest below /usr/lib/postgresql"},
	{Path: "postgresql.bin_name", Fate: Ignored, Note: "not used: the programs have their usual names"},
	{Path: "postgresql.config_dir", Fate: Ignored, Note: "not read: put what is set there into `postgresql.parameters`"},
	{Path: "postgresql.custom_conf", Fate: Ignored, Note: "not read: put what is set there into `postgresql.parameters`"},
	{Path: "postgresql.pgpass", Fate: Ignored, Note: noNeed + ": passwords are in a file of quorate's own"},
	{Path: "postgresql.authentication.superuser.username", Fate: Used},
	{Path: "postgresql.authentication.superuser.password", Fate: Used},
	{Path: "postgresql.authentication.replication.username", Fate: Used},
	{Path: "postgresql.authentication.replication.password", Fate: Used},
	{Path: "postgresql.authentication.rewind", Fate: Ignored, Note: noNeed + ": pg_rewind works with the replication role"},
	{Path: "postgresql.authentication.*.sslmode", Fate: Ignored, Note: "not used: members connect as the server's pg_hba lets them"},
	{Path: "postgresql.authentication.*.sslnegotiation", Fate: Ignored, Note: "not used"},
	{Path: "postgresql.authentication.*.sslkey", Fate: Ignored, Note: "not used: members show no certificate to Postgres"},
	{Path: "postgresql.authentication.*.sslpassword", Fate: Ignored, Note: "not used: members show no certificate to Postgres"},
	{Path: "postgresql.authentication.*.sslcert", Fate: Ignored, Note: "not used: members show no certificate to Postgres"},
	{Path: "postgresql.authentication.*.sslrootcert", Fate: Ignored, Note: "not used: members do not check Postgres's certificate"},
	{Path: "postgresql.authentication.*.sslcrl", Fate: Ignored, Note: "not used: members do not check Postgres's certificate"},
	{Path: "postgresql.authentication.*.sslcrldir", Fate: Ignored, Note: "not used: members do not check Postgres's certificate"},
	{Path: "postgresql.authentication.*.gssencmode", Fate: Ignored, Note: "not used"},
	{Path: "postgresql.authentication.*.channel_binding", Fate: Ignored, Note: "not used"},
	{Path: "postgresql.parameters", Fate: Used, Note: "but for those that quorate sets itself"},
	{Path: "postgresql.parameters_primary", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.parameters_replica", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.parameters_standby_leader", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.pg_hba", Fate: Used, Note: "after lines that let quorate's own roles in"},
	{Path: "postgresql.pg_hba_primary", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.pg_hba_replica", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.pg_hba_standby_leader", Fate: Ignored, Note: anyRole},
	{Path: "postgresql.pg_ident", Fate: Ignored, Note: noIdent},
	{Path: "postgresql.pg_ident_primary", Fate: Ignored, Note: noIdent},
	{Path: "postgresql.pg_ident_replica", Fate: Ignored, Note: noIdent},
	{Path: "postgresql.pg_ident_standby_leader", Fate: Ignored, Note: noIdent},
	{Path: "postgresql.pg_hosts", Fate: Ignored, Note: "not written"},
	{Path: "postgresql.pg_hosts_primary", Fate: Ignored, Note: "not written"},
	{Path: "postgresql.pg_hosts_replica", Fate: Ignored, Note: "not written"},
	{Path: "postgresql.pg_hosts_standby_leader", Fate: Ignored, Note: "not written"},
	{Path: "postgresql.recovery_conf", Fate: Ignored,
		Note: "not used: standbys stream from the primary, without delay and without a restore_command"},
	{Path: "postgresql.callbacks", Fate: Ignored, Note: noScript},
	{Path: "postgresql.pre_promote", Fate: Ignored, Note: "not run: the old primary is fenced before another one is appointed"},
	{Path: "postgresql.before_stop", Fate: Ignored, Note: "not run"},
	{Path: "postgresql.use_unix_socket", Fate: Ignored, Note: noNeed + ": it is always used"},
	{Path: "postgresql.use_unix_socket_repl", Fate: Ignored, Note: noNeed},
	{Path: "postgresql.use_pg_rewind", Fate: Ignored,
		Note: noNeed + ": what diverged is always rewound where that is safe, else cloned"},
	{Path: "postgresql.use_slots", Fate: Ignored, Note: noNeed + ": they are always used"},
	{Path: "postgresql.rewind", Fate: Ignored, Note: "not used: pg_rewind has no options of yours"},
	{Path: "postgresql.pg_ctl_timeout", Fate: Ignored, Note: noNeed + ": who makes progress is waited for"},
	{Path: "postgresql.remove_data_directory_on_rewind_failure", Fate: Ignored,
		Note: noNeed + ": it is cloned, and the old directory stays beside the new one"},
	{Path: "postgresql.remove_data_directory_on_diverged_timelines", Fate: Ignored,
		Note: noNeed + ": it is rewound or cloned, and the old directory stays beside the new one"},
	{Path: "postgresql.create_replica_methods", Fate: Ignored, Note: cloned},
	{Path: "postgresql.create_replica_method", Fate: Ignored, Note: cloned},
	{Path: "postgresql.basebackup", Fate: Ignored, Note: cloned},
	{Path: "postgresql.<method>", Fate: Ignored, Note: cloned},
}

var tagKeys = []Key{
	{Path: "tags.nofailover", Fate: Used},
	{Path: "tags.failover_priority", Fate: Used, Note: "breaks ties; 1 if it is not given, 0 and less is nofailover"},
	{Path: "tags.noloadbalance", Fate: Used},
	{Path: "tags.nosync", Fate: Ignored, Note: "not used: every data node that may be elected counts for commits"},
	{Path: "tags.sync_priority", Fate: Ignored, Note: "not used: every data node that may be elected counts for commits"},
	{Path: "tags.nostream", Fate: Ignored, Note: "not used: every standby streams"},
	{Path: "tags.clonefrom", Fate: Ignored, Note: "not used: clones are made from the primary"},
	{Path: "tags.replicatefrom", Fate: Ignored, Note: "not used: every standby streams from the primary"},
	{Path: "tags.<name>", Fate: Used, Note: "shown by the health paths, and matched by tag_NAME=VALUE"},
}

// keyOf returns the row for a path.
func keyOf(path string) (Key, bool) {
	for _, k := range Keys() {
		if matches(k.Path, path) {
			return k, true
		}
	}
	if below, ok := strings.CutPrefix(path, dcs+"."); ok && strings.HasPrefix(below, "postgresql.") {
		return keyOf(below)
	}
	return Key{}, false
}

// matches compares name by name.
func matches(pattern, path string) bool {
	p, q := strings.Split(pattern, "."), strings.Split(path, ".")
	if len(p) != len(q) {
		return false
	}
	for i := range p {
		if p[i] != "*" && p[i] != q[i] {
			return false
		}
	}
	return true
}
