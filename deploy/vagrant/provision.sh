#!/usr/bin/env bash
# Makes this Debian host a node of a quorate cluster, or puts HAProxy in front of one. Run it as root, on each host:
#
#   provision.sh --name n1 --node n1=10.0.0.1 --node n2=10.0.0.2 --node n3=10.0.0.3 --program FILE --secret FILE
#   provision.sh --haproxy --node n1=10.0.0.1 --node n2=10.0.0.2 --node n3=10.0.0.3
#
#   --name NAME               which of the nodes this host is
#   --node NAME=ADDRESS       a node with Postgres; --witness NAME=ADDRESS: one that only votes. The same nodes in the same
#                             order on every host: the first of them makes the cluster when all have answered
#   --program FILE            the quorate program, such as dist/quorate-linux-amd64
#   --secret FILE             the cluster's secret, the same on every node. Made once, readable by nobody else:
#                             (umask 077; head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >FILE)
#   --scope NAME              of the cluster (default: demo)
#   --postgres VERSION        Debian's major version of it (default: 15)
#   --unit FILE               the systemd unit (default: ../systemd/quorate.service)
#   --haproxy-config FILE     what HAProxy's configuration is made from (default: ../haproxy/haproxy.cfg)
#
# It installs what is missing from Debian, the program, the secret, the node file and the unit, and starts the unit. Run again,
# such as with a newer --program, it replaces what differs (the old file is kept beside it) and then restarts the daemon;
# where nothing differs and the daemon runs, it leaves that alone. Postgres goes on during a restart of the daemon. Clients of
# the primary notice nothing if the new daemon is there within the lease (0.8 * failover_after, so 0.8 s by default); if it is
# not, Postgres is frozen and another node takes over. So upgrade one host after the other, and the primary's after a switchover.
# Where systemd does not run it says what to start. It refuses a host with another Postgres or another cluster's secret, and
# removes nothing.
#
# Exit status: 0 done, 1 something failed, 2 wrong usage, 3 this host can't become a node as it is.
set -euo pipefail
shopt -s inherit_errexit

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program_path=/usr/local/bin/quorate
etc=/etc/quorate
node_file=$etc/quorate.yml
unit_path=/etc/systemd/system/quorate.service

name='' haproxy=no program='' secret='' scope=demo postgres=15
unit=$here/../systemd/quorate.service
haproxy_config=$here/../haproxy/haproxy.cfg
nodes=()     # NAME=ADDRESS of all, in order
witnesses=() # the names of those without Postgres
address='' role='' service=quorate

# pending names a file that is there from before something is written until the service has been restarted, also if this script
# was killed in between. A reboot restarts the service as well, and empties /run.
pending() { printf '/run/quorate-provision.%s' "$service"; }

say() { printf '%s\n' "$@"; }

usage() {
    printf 'provision.sh: %s\n' "$@" >&2
    printf 'The top of %s says how to use it.\n' "${BASH_SOURCE[0]}" >&2
    exit 2
}

cannot() {
    printf 'provision.sh: %s\n' "$@" >&2
    exit 3
}

failed() {
    printf 'provision.sh: %s\n' "$@" >&2
    exit 1
}

parse() {
    while [ $# -gt 0 ]; do
        if [ "$1" = --haproxy ]; then
            haproxy=yes
            shift
            continue
        fi
        [ $# -ge 2 ] || usage "$1 needs a value"
        case $1 in
            --name) name=$2 ;;
            --node) nodes+=("$2") ;;
            --witness) nodes+=("$2") witnesses+=("${2%%=*}") ;;
            --program) program=$2 ;;
            --secret) secret=$2 ;;
            --scope) scope=$2 ;;
            --postgres) postgres=$2 ;;
            --unit) unit=$2 ;;
            --haproxy-config) haproxy_config=$2 ;;
            *) usage "there is no option $1" ;;
        esac
        shift 2
    done
    [ ${#nodes[@]} -gt 0 ] || usage "name the nodes: --node n1=10.0.0.1 --node ..."
    local node
    for node in "${nodes[@]}"; do
        [[ $node =~ ^[a-z][a-z0-9_-]*=[0-9.]+$ ]] || usage "$node is not NAME=ADDRESS, with an IPv4 address"
        [ "${node%%=*}" != "$name" ] || address=${node#*=}
    done
    if [ "$haproxy" = yes ]; then
        service=haproxy
        [ -r "$haproxy_config" ] || usage "there is no $haproxy_config: give --haproxy-config"
        return
    fi
    [ -n "$address" ] || usage "--name ${name:-(missing)} is none of ${nodes[*]}"
    [ -r "$secret" ] || usage "there is no secret in ${secret:-(missing)}: give --secret"
    [ -r "$program" ] || usage "there is no program in ${program:-(missing)}: run make dist where the repository is, and give --program"
    [ -r "$unit" ] || usage "there is no $unit: give --unit"
    role=data
    if is_witness "$name"; then role=witness; fi
}

is_witness() {
    local w
    for w in "${witnesses[@]}"; do
        [ "$w" != "$1" ] || return 0
    done
    return 1
}

check_host() {
    [ "$(id -u)" -eq 0 ] || cannot "run it as root"
    command -v apt-get >/dev/null || cannot "this is no Debian: there is no apt-get"
    [ "$haproxy" = no ] || return 0
    local all
    all=$(ip -oneline address show)
    grep -qF " $address/" <<<"$all" || cannot "$name is $address, and this host has no such address"
    if [ -e "$etc/secret" ] && ! cmp -s "$secret" "$etc/secret"; then
        cannot "$etc/secret is another cluster's secret: this host is a node already"
    fi
    if [ "$role" = data ] && compgen -G '/etc/postgresql/*/*/postgresql.conf' >/dev/null; then
        cannot "this host has a Postgres that Debian looks after (pg_lsclusters), on the same port as quorate's." \
            "Move or drop it (pg_dropcluster), or take another host."
    fi
}

install_packages() {
    say "Installing $*"
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 \
        install --no-install-recommends "$@" </dev/null
}

# Debian's package makes and starts a cluster of its own, on quorate's port, unless it is told not to.
install_postgres() {
    [ ! -x "/usr/lib/postgresql/$postgres/bin/postgres" ] || return 0
    apt-get -q update </dev/null
    install_packages postgresql-common
    local conf=/etc/postgresql-common/createcluster.conf
    sed -i '/^[#[:space:]]*create_main_cluster/d' "$conf"
    echo 'create_main_cluster = false' >>"$conf"
    install_packages "postgresql-$postgres"
}

# put MODE FROM TO: installs a file unless that very file is there; one of another content is kept as TO.~1~ and so on.
# What is replaced is never written into: it may be a program that runs. The mode is set in any case, and on what is kept as
# well: a secret that is there already may be one that everybody can read.
put() {
    if [ -e "$3" ] && [ "$(stat -L -c %04a "$3")" != "$1" ]; then
        chmod "$1" "$3"
        say "Set the mode of $3 to $1"
    fi
    ! cmp -s "$2" "$3" || return 0
    : >"$(pending)"
    install --backup=numbered -m "$1" "$2" "$3"
    say "Wrote $3"
}

write_node_file() {
    local node peers='' separator=''
    for node in "${nodes[@]}"; do
        peers+="$separator${node#*=}:7400"
        separator=', '
    done
    cat <<FILE
# Written by provision.sh; quorate reads it when it starts.
scope: $scope
name: $name
cluster:
  listen: $address:7400
  data_dir: /var/lib/quorate
  peers: [$peers]
  secret_file: $etc/secret
  role: $role
restapi:
  listen: $address:8008
FILE
    [ "$role" = data ] || return 0
    cat <<FILE
postgresql:
  listen: $address:5432
  data_dir: /var/lib/postgresql/$postgres/main
  bin_dir: /usr/lib/postgresql/$postgres/bin
bootstrap:
  dcs:
    failover_after: 1s
    durability: quorum
FILE
}

make_node() {
    if [ "$role" = data ]; then
        install_postgres
        # New copies of the database are made beside the old one, so the directory above it is Postgres's too.
        install -d -o postgres -g postgres "/var/lib/postgresql/$postgres"
    fi
    put 0755 "$program" "$program_path"
    "$program_path" version >/dev/null || cannot "$program does not run on this machine ($(uname -m))"
    install -d -m 0755 "$etc"
    put 0600 "$secret" "$etc/secret"
    local new said
    new=$(mktemp)
    write_node_file >"$new"
    said=$("$program_path" config check "$new" 2>&1) || cannot "the node file for this host can't be used:" "$said"
    put 0600 "$new" "$node_file"
    rm -f "$new"
    put 0644 "$unit" "$unit_path"
    start
}

# make_haproxy takes the configuration with a line for each node with Postgres in place of its own ones.
make_haproxy() {
    if [ ! -x /usr/sbin/haproxy ]; then
        apt-get -q update </dev/null
        install_packages haproxy
    fi
    local node servers='' new
    for node in "${nodes[@]}"; do
        is_witness "${node%%=*}" || servers+="    server ${node%%=*} ${node#*=}:5432"$'\n'
    done
    new=$(mktemp)
    awk -v servers="$servers" '
        /^[[:space:]]*server[[:space:]]/ { if (!done) printf "%s", servers; done = 1; next }
        /^[^[:space:]]/ { done = 0 }
        { print }' "$haproxy_config" >"$new"
    /usr/sbin/haproxy -c -q -f "$new" || cannot "HAProxy does not take the configuration made of $haproxy_config"
    put 0644 "$new" /etc/haproxy/haproxy.cfg
    rm -f "$new"
    start
}

# start has systemd run the service, where there is one, and looks whether it does. What runs is restarted only for what was
# written.
start() {
    if [ ! -d /run/systemd/system ]; then
        say "systemd does not run here. Where it does, this would follow:" \
            "  systemctl daemon-reload && systemctl enable $service && systemctl restart $service"
        return
    fi
    systemctl daemon-reload
    systemctl enable "$service"
    if [ ! -e "$(pending)" ] && systemctl --quiet is-active "$service"; then
        say "Nothing is new, and $service runs: it is left alone."
        return
    fi
    say "Restarting $service"
    if ! systemctl restart "$service" || ! stays; then
        failed "$service does not keep running. Look for the reason, mend it, and run this again:" \
            "  journalctl -u $service -n 50" "  systemctl status $service"
    fi
    rm -f "$(pending)"
}

# stays says that the service is active, and the same process still is some looks later: systemd starts again what ends.
stays() {
    local looks seen=0 now last=''
    for ((looks = 0; looks < 40; looks++)); do
        now=$(systemctl show --property=ActiveState --property=MainPID "$service")
        case $now in
            *ActiveState=failed*) return 1 ;;
            *ActiveState=active*) if [ "$now" = "$last" ]; then seen=$((seen + 1)); else seen=0; fi ;;
            *) seen=0 ;;
        esac
        [ "$seen" -lt 10 ] || return 0
        last=$now
        sleep 0.25
    done
    return 1
}

hint_node() {
    say '' "$name is set up." ''
    if [ ${#nodes[@]} -gt 1 ]; then
        say "The cluster begins when all of its nodes have been started: ${nodes[*]}" ''
    fi
    say "Try, as root:" \
        "  quorate status        who is primary, and what may be lost" \
        "  quorate explain       what the cluster would do now, and why" \
        "  quorate switchover    another primary" \
        "  quorate history       how each primary came to be" \
        "  journalctl -f -u quorate"
    [ "$role" = data ] || return 0
    local node hosts=''
    for node in "${nodes[@]}"; do
        is_witness "${node%%=*}" || hosts+=,${node#*=}
    done
    say '' "Postgres, on this host, and from elsewhere once there is a role with a password:" \
        "  sudo -u postgres psql -h /var/lib/quorate/run" \
        "  psql 'postgresql://ROLE:PASSWORD@${hosts#,}/postgres?target_session_attrs=read-write&connect_timeout=2'"
}

hint_haproxy() {
    say '' "HAProxy is set up: the primary answers on port 5000 of this host, standbys on 5001; http://THIS-HOST:7000 says" \
        "which server is which."
}

parse "$@"
check_host
if [ "$haproxy" = yes ]; then
    make_haproxy
    hint_haproxy
else
    make_node
    hint_node
fi
