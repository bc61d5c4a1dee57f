# shellcheck shell=bash
# Sourced by ./check and ./demo: finds out what this machine lacks and installs it, on Debian 12 with only Go
# and git. It never starts, stops or changes a Postgres cluster that is already there.
#
#   need_go                 Go is there and new enough for go.mod, or exit 3
#   need_packages NAME...   those Debian packages are there, or are installed, or exit 3

# A plain user's PATH on Debian has no sbin, where ip and nft live; sudo's has no /usr/local/go.
PATH="$PATH:/usr/sbin:/sbin:/usr/local/go/bin"
export PATH

# cannot explains on stderr what is missing and ends the script with the status that means just that.
cannot() {
    printf '%s\n' "$@" >&2
    exit 3
}

need_go() {
    local want have
    want=$(sed -n 's/^go \([0-9.]*\).*/\1/p' go.mod)
    command -v go >/dev/null 2>&1 || cannot \
        "Go is not installed, or not in PATH. quorate needs Go $want or newer." \
        "Install it from https://go.dev/dl/ into /usr/local/go and run this again."
    # A Go of 1.21 or later fetches the version that go.mod names by itself, and says so here when it can't.
    if ! have=$(go env GOVERSION 2>&1); then
        cannot "Go can't be used here. It said:" "  $have" "quorate needs Go $want or newer: https://go.dev/dl/"
    fi
    have=${have#go}
    have=${have%% *}
    if [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
        cannot "Go $have ($(command -v go)) is too old: quorate needs Go $want or newer: https://go.dev/dl/"
    fi
}

# has NAME: is what that Debian package is wanted for on this machine, whoever put it there? What dpkg was killed over is not,
# whichever of its files there are.
has() {
    local state
    state=$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null || true)
    case $state in *half-* | *unpacked*) return 1 ;; esac
    case $1 in
        make | gcc) command -v "$1" >/dev/null 2>&1 ;;
        libc6-dev) [ -e /usr/include/stdlib.h ] ;;
        iproute2) command -v ip >/dev/null 2>&1 ;;
        nftables) command -v nft >/dev/null 2>&1 ;;
        shellcheck | vagrant | haproxy) command -v "$1" >/dev/null 2>&1 ;;
        systemd) command -v systemd-analyze >/dev/null 2>&1 ;;
        postgresql-common) [ -e /usr/share/postgresql-common/pg_wrapper ] ;;
        postgresql-15) [ -x /usr/lib/postgresql/15/bin/postgres ] ;;
        *) cannot "scripts/install.sh: no test for the package $1" ;;
    esac
}

# apt_get OPTION...: apt-get install, which asks nothing.
apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 --no-install-recommends install "$@" </dev/null
}

# repair goes on where a dpkg or an apt-get was killed: before that nothing else can be installed. What it can't mend makes the
# installation fail that follows, with apt-get's words.
repair() {
    # Whatever was changed in /etc stays as it is.
    DEBIAN_FRONTEND=noninteractive dpkg --force-confdef --force-confold --configure -a </dev/null || true
    [ -n "$(dpkg --audit)" ] || return 0
    # Some may lack others that were to follow, which apt-get installs if no package is named, and some a part of their files,
    # which it gets only if they are.
    local torn
    mapfile -t torn < <(dpkg-query -W -f '${db:Status-Want} ${db:Status-Status} ${binary:Package}\n' | sed -n 's/^install half-installed //p')
    apt_get --no-remove --fix-broken || true
    [ ${#torn[@]} -gt 0 ] || return 0
    apt_get --no-remove --reinstall "${torn[@]}" || true
    apt_get --no-remove --fix-broken || true
}

# Debian's postgresql-15 makes and starts a cluster of its own when it is installed, unless it is told not to.
no_main_cluster() {
    local conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] || cp /usr/share/postgresql-common/createcluster.conf "$conf"
    if grep -qs '^[#[:space:]]*create_main_cluster' "$conf"; then
        sed -i 's/^[#[:space:]]*create_main_cluster.*/create_main_cluster = false/' "$conf"
    else
        printf 'create_main_cluster = false\n' >>"$conf"
    fi
}

# by_hand PACKAGE...: the lines that an administrator would type.
by_hand() {
    local postgres=no name first=()
    for name in "$@"; do
        if [ "$name" = postgresql-15 ]; then postgres=yes; else first+=("$name"); fi
    done
    echo "  sudo apt-get update"
    if [ ${#first[@]} -gt 0 ]; then
        echo "  sudo apt-get install -y --no-install-recommends ${first[*]}"
    fi
    if [ "$postgres" = yes ]; then
        echo "  echo 'create_main_cluster = false' | sudo tee -a /etc/postgresql-common/createcluster.conf"
        echo "  sudo apt-get install -y --no-install-recommends postgresql-15"
    fi
}

need_packages() {
    local name missing=() first=() postgres=no
    for name in "$@"; do
        has "$name" || missing+=("$name")
        case $name in postgresql-15) has "$name" || postgres=yes ;; esac
    done
    [ ${#missing[@]} -gt 0 ] || return 0

    if [ "$postgres" = yes ] && ! has postgresql-common; then
        missing=(postgresql-common "${missing[@]}")
    fi
    if [ "$(id -u)" -ne 0 ]; then
        cannot "These packages are missing, and only root can install them: ${missing[*]}. Run" \
            "$(by_hand "${missing[@]}")" "and then this again, or run this as root once."
    fi
    command -v apt-get >/dev/null 2>&1 || cannot \
        "These Debian packages are missing, and there is no apt-get to install them: ${missing[*]}." \
        "Install what corresponds to them on this system and run this again."
    # Its package would start them: that is for whoever made them to decide.
    if [ "$postgres" = yes ] && ls /etc/postgresql/15/*/postgresql.conf >/dev/null 2>&1; then
        cannot "/etc/postgresql/15 holds clusters whose programs are not installed, and installing postgresql-15" \
            "would start them. Install it yourself, or move them away, and run this again."
    fi

    echo "Installing what is missing: ${missing[*]}"
    apt-get -q update </dev/null || cannot "apt-get update failed: without it these can't be installed: ${missing[*]}."
    # postgresql-15 may be what waits for being configured, and would then make its cluster.
    if [ "$postgres" = yes ] && [ -e /usr/share/postgresql-common/createcluster.conf ]; then
        no_main_cluster
    fi
    repair
    for name in "${missing[@]}"; do
        [ "$name" = postgresql-15 ] || first+=("$name")
    done
    if [ ${#first[@]} -gt 0 ]; then
        apt_get --no-upgrade "${first[@]}" || cannot "apt-get could not install ${first[*]}."
    fi
    if [ "$postgres" = yes ]; then
        no_main_cluster
        apt_get --no-upgrade postgresql-15 || cannot "apt-get could not install postgresql-15."
    fi
    for name in "${missing[@]}"; do
        has "$name" || cannot "$name was installed, but what it is needed for is still not there."
    done
}
