#!/usr/bin/env bash
# What TestProvision does on its machine: makes it a node by provision.sh, runs the node as the unit says, uses it, and
# ends it as a shutdown of the machine does. Everything is said on the way; the status is 0 if all was as it should be.
set -euo pipefail
shopt -s inherit_errexit
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
unset TMPDIR # it is a place of the machine that runs the test
# The daemon is restarted below, and must be back within the lease however busy this machine is.
export QUORATE_BOOTSTRAP_DCS_FAILOVER_AFTER=10s

address=192.168.56.11
node_file=/etc/quorate/quorate.yml
unit=/etc/systemd/system/quorate.service
log=/tmp/quorate.log
daemon=

step() { printf '== %s\n' "$*"; }

fail() {
    printf 'FAILED: %s\n' "$@"
    if [ -e "$log" ]; then
        echo "-- end of the daemon's log"
        tail -n 50 "$log"
    fi
    exit 1
}

# await WHAT COMMAND...: until the command succeeds.
await() {
    local what=$1 tries=600
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || fail "waited 60 s until $what"
        sleep 0.1
    done
}

provision() {
    /mnt/provision.sh --program /mnt/quorate --secret /mnt/secret --unit /mnt/quorate.service \
        --haproxy-config /mnt/haproxy.cfg "$@"
}

directive() { sed -n "s/^$1=//p" "$unit"; }

# start runs the daemon as systemd would, as far as that can be done without it.
start() {
    local command capabilities=-all capability
    read -r -a command <<<"$(directive ExecStart)"
    for capability in $(directive CapabilityBoundingSet); do
        capability=${capability#CAP_}
        capabilities+=,+${capability,,}
    done
    setpriv --no-new-privs --bounding-set="$capabilities" "${command[@]}" >>"$log" 2>&1 &
    daemon=$!
}

serving() {
    local said
    said=$(quorate status -c "$node_file" -o json) || true
    grep -q '"serving": true' <<<"$said"
}

as_postgres() { runuser -u postgres -- psql -h /var/lib/quorate/run -X -At -v ON_ERROR_STOP=1 "$@"; }

through_haproxy() { PGPASSWORD=app psql "host=$address port=5000 user=app dbname=postgres connect_timeout=2" -X -At "$@"; }

postmaster() { head -n 1 /var/lib/postgresql/15/main/postmaster.pid; }

# all_ended says that nothing of quorate and Postgres runs here.
all_ended() { ! grep -q -x -e quorate -e postgres /proc/[0-9]*/comm 2>/dev/null; }

step "provision.sh makes this machine a node"
provision --name n1 --node "n1=$address"
cat "$node_file"
[ "$(stat -c '%U %a' /etc/quorate/secret "$node_file" | sort -u)" = "root 600" ] || fail "others may read the secret or the node file"
[ "$(stat -c %U /var/lib/postgresql/15)" = postgres ] || fail "Postgres can't make a copy of its data beside them"

step "a secret that others could read is closed again"
chmod 0644 /etc/quorate/secret
again=$(provision --name n1 --node "n1=$address")
[ "$(stat -c %a /etc/quorate/secret)" = 600 ] || fail "others may read the secret still:" "$again"
! grep -q '^Wrote' <<<"$again" || fail "it wrote:" "$again"

# No systemd runs here. For the next steps this stands for it: it writes down what it is told, and says what $systemd/state has.
systemd=/tmp/systemd
mkdir -p "$systemd" /run/systemd/system
cat >"$systemd/systemctl" <<'SCRIPT'
#!/bin/sh
echo "$*" >>/tmp/systemd/told
case $* in
    *is-active*) grep -q -x ActiveState=active /tmp/systemd/state ;;
    show*) cat /tmp/systemd/state ;;
esac
SCRIPT
chmod +x "$systemd/systemctl"

# by_systemd STATE ARGUMENT...: provision.sh where the service is in that state. $again is what it says and $status how it ends.
by_systemd() {
    printf 'ActiveState=%s\nMainPID=7\n' "$1" >"$systemd/state"
    shift
    : >"$systemd/told"
    status=0
    again=$(PATH=$systemd:$PATH provision --name n1 --node "n1=$address" "$@" 2>&1) || status=$?
}

restarted() { grep -q -x 'restart quorate' "$systemd/told"; }

step "what was written and not taken over is taken over by the next run"
by_systemd active
if [ "$status" -ne 0 ] || ! restarted; then fail "status $status:" "$again"; fi

step "another run changes nothing and restarts nothing"
by_systemd active
if [ "$status" -ne 0 ] || restarted || grep -q '^Wrote' <<<"$again"; then fail "status $status:" "$again" "$(cat "$systemd/told")"; fi
by_systemd inactive
restarted || fail "it left alone what does not run:" "$again"

step "a daemon that does not keep running is no success, and is not left alone by the next run"
{ cat /mnt/quorate.service && echo "# another"; } >/tmp/another.service
by_systemd failed --unit /tmp/another.service
if [ "$status" -ne 1 ] || ! grep -q 'journalctl -u quorate' <<<"$again"; then fail "status $status:" "$again"; fi
by_systemd active --unit /tmp/another.service
if [ "$status" -ne 0 ] || ! restarted || grep -q '^Wrote' <<<"$again"; then fail "status $status:" "$again"; fi
by_systemd active
if [ "$status" -ne 0 ] || ! restarted; then fail "status $status:" "$again"; fi
rmdir /run/systemd/system

step "another cluster's secret is refused"
head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >/tmp/other
status=0
refused=$(/mnt/provision.sh --name n1 --node "n1=$address" --program /mnt/quorate --secret /tmp/other --unit /mnt/quorate.service 2>&1) || status=$?
if [ "$status" -ne 3 ] || ! grep -q "another cluster's secret" <<<"$refused"; then fail "status $status:" "$refused"; fi

step "systemd knows all of the unit"
said=$(systemd-analyze verify "$unit" 2>&1) || fail "systemd-analyze:" "$said"
[ -z "$said" ] || fail "systemd-analyze:" "$said"

step "the unit's ExecStart makes a cluster of one"
start
await "the node serves" serving
said=$(quorate status -c "$node_file") || true # a cluster of one is degraded
printf '%s\n' "$said"
grep -q 'Fence of n1: cgroup; new connections refused while frozen: yes' <<<"$said" || fail "the fence is less than the unit permits"
as_postgres -c "CREATE TABLE kept AS SELECT 42 AS v" -c "CREATE ROLE app LOGIN PASSWORD 'app'" -c "GRANT SELECT ON kept TO app"

step "a restart of the daemon leaves Postgres alone"
before=$(postmaster)
kill -TERM "$daemon"
wait "$daemon" || fail "the daemon ended with status $? after SIGTERM"
start
await "the node serves again" serving
[ "$(postmaster)" = "$before" ] || fail "Postgres was process $before and is $(postmaster)"

step "HAProxy finds the primary"
provision --haproxy --node "n1=$address"
haproxy -f /etc/haproxy/haproxy.cfg >/tmp/haproxy.log 2>&1 &
balancer=$!
await "a query through HAProxy succeeds" through_haproxy -c "SELECT 1"
[ "$(through_haproxy -c "SELECT v FROM kept")" = 42 ] || fail "HAProxy leads elsewhere"
kill -TERM "$balancer"
wait "$balancer" || true

step "the unit's ExecStop does nothing while the machine runs, and stops in order when it goes down"
stop=$(directive ExecStop)
stop=${stop#"/bin/sh -c '"}
stop=${stop%"'"}
stop=${stop//'$$'/'$'}
/bin/sh -c "$stop" || fail "ExecStop: status $?"
serving || fail "it stopped the node"
mkdir /tmp/shutdown
printf '#!/bin/sh\necho stopping\n' >/tmp/shutdown/systemctl # what systemctl says of a machine that goes down
chmod +x /tmp/shutdown/systemctl
PATH=/tmp/shutdown:$PATH /bin/sh -c "$stop" || fail "ExecStop: status $?"
wait "$daemon" || fail "the daemon ended with status $?"
state=$(/usr/lib/postgresql/15/bin/pg_controldata /var/lib/postgresql/15/main)
grep -q '^Database cluster state: *shut down$' <<<"$state" || fail "Postgres was not shut down:" "$state"
await "nothing runs any more" all_ended

step "the same machine as a witness"
provision --name w1 --node n1=192.168.56.12 --witness "w1=$address"
grep -q '^  role: witness$' "$node_file" || fail "it is none"
! grep -q '^postgresql:' "$node_file" || fail "it has a Postgres"
[ -e "$node_file.~1~" ] || fail "the node file of before is gone"
step "done"
