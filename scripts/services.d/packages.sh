# shellcheck shell=bash
# Debian's packages: installed when a command or a server is missing, by apt, as root or
# through sudo, and without the server that a package would start of its own.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly INSTALL_SECONDS=900
readonly POLICY=/usr/sbin/policy-rc.d
readonly NO_CLUSTER=/etc/postgresql-common/createcluster.d/jatis-install.conf
readonly OURS='# Made by scripts/services of jatis while it installs packages; safe to remove.'

# False when the packages cannot be had this way; each reason is said.
have_packages_installed() {
    local log=$state_dir/install.log as_root=()
    has apt-get || return 1
    if ((EUID != 0)); then
        has sudo || { warn "$* missing, and neither root nor sudo to install with"; return 1; }
        as_root=(sudo)
        # Nobody to ask for a password: only where none is needed.
        [[ -t 0 ]] || as_root=(sudo -n)
        "${as_root[@]}" -v || { warn "$* missing, and sudo refused to install them"; return 1; }
    fi
    make_state_dir
    say "Installing $* (apt-get, log in $log)"
    if ! "${as_root[@]}" "$ROOT/scripts/services" install-packages "$@" >"$log" 2>&1 </dev/null 9>&-; then
        warn "installing $* failed: $(last_words "$log"); see $log"
        return 1
    fi
}

# Runs as root. Debian's packages start a server of their own as they are installed; ours is
# private, so none is started, no cluster is made, and the next boot starts none either.
install_packages() {
    local had_epmd=no
    # One at a time: a second one would take away what keeps the first one's servers still.
    exec 8>>/run/jatis-install.lock
    flock -w "$INSTALL_SECONDS" 8 || die "E: another install takes too long"
    if [[ -e /lib/systemd/system/epmd.socket ]]; then had_epmd=yes; fi
    keep_servers_from_starting "$@"
    trap restore_starting EXIT
    trap 'exit 130' INT TERM HUP
    export DEBIAN_FRONTEND=noninteractive
    local apt=(timeout "$INSTALL_SECONDS" apt-get -y -o DPkg::Lock::Timeout=120)
    "${apt[@]}" install --no-install-recommends "$@" || {
        # No package lists yet, or older ones than the archive.
        "${apt[@]}" update
        "${apt[@]}" install --no-install-recommends "$@"
    }
    if [[ " $* " == *" rabbitmq-server "* ]]; then
        update-rc.d rabbitmq-server disable || true
        if [[ $had_epmd == no ]] && has systemctl; then systemctl disable epmd.socket epmd.service || true; fi
    fi
}

keep_servers_from_starting() {
    restore_starting # What an interrupted install left behind.
    if [[ ! -e $POLICY ]]; then
        # Says no only while this process lives: not even a power cut leaves it in the way.
        printf '#!/bin/sh\n%s\nif [ -e /proc/%s ]; then exit 101; fi\n' "$OURS" $$ >"$POLICY"
        chmod 755 "$POLICY"
    fi
    if [[ " $* " == *" postgresql "* ]]; then
        mkdir -p "${NO_CLUSTER%/*}"
        printf '%s\ncreate_main_cluster = false\n' "$OURS" >"$NO_CLUSTER"
    fi
}

restore_starting() {
    local file
    for file in "$POLICY" "$NO_CLUSTER"; do
        if grep -qsxF -- "$OURS" "$file"; then rm -f -- "$file"; fi
    done
}
