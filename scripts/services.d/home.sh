# shellcheck shell=bash
# The home of the private servers: where their data lies, and what is remembered from one
# call to the next (pids, ports, a password), one record a file under records/.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

# The folder that holds the data: the state folder itself, except where the servers' own
# users cannot enter that (root, with a clone under /root): then one under /var/lib.
# CAUTION: data once made decides, so that a clone never silently loses sight of it.
find_home() {
    home=$(elsewhere)
    [[ -d $home/records ]] && return
    home=$state_dir
    [[ -d $home/records ]]
}

elsewhere() {
    printf '/var/lib/jatis-dev/%s' "$(printf %s "$state_dir" | sha256sum | cut -c1-16)"
}

settle_home() {
    make_state_dir
    if ! find_home; then
        home=$state_dir
        if ! everyone_can_enter; then home=$(elsewhere); fi
        # Passwords and ports: for whoever runs this script, not for the servers' users.
        if ! (umask 022 && mkdir -p -- "$home" && mkdir -m 700 -- "$home/records"); then
            die "cannot create $home"
        fi
    fi
    everyone_can_enter ||
        die "$home holds servers' data, but their users cannot enter it any more; allow it with chmod o+x on each folder of that path"
    [[ -w $home/records ]] || die "$home belongs to $(stat -c %U -- "$home/records"); run this as that user"
}

# Also where the caller's umask would keep the servers' users out.
make_state_dir() {
    (umask 022 && mkdir -p -- "$state_dir") || die "cannot create $state_dir"
}

# As root the servers run as users of their own, who must be able to reach their data.
everyone_can_enter() {
    local user
    ((EUID == 0)) || return 0
    for user in postgres rabbitmq; do
        id -u "$user" >/dev/null 2>&1 || continue
        (become "$user" test -x "$home") || return 1
    done
}

remember() { (umask 077 && printf '%s\n' "$2" >"$home/records/$1.new" && mv -f -- "$home/records/$1.new" "$home/records/$1"); }

recall() { cat -- "$home/records/$1" 2>/dev/null; }

# free_port NAME: the port used last time if it is free, else any free one; remembered.
# Below the range from which the kernel serves outgoing connections.
free_port() {
    local port tries
    port=$(recall "$1") || port=
    for ((tries = 0; tries < 200; tries++)); do
        if [[ -n $port ]] && ! port_is_taken "$port" && ! remembered_by_another "$1" "$port"; then
            remember "$1" "$port"
            return
        fi
        port=$((21000 + RANDOM % 11000))
    done
    die "no free port on 127.0.0.1 between 21000 and 32000"
}

remembered_by_another() {
    local file
    for file in "$home"/records/*-port; do
        [[ ${file##*/} == "$1" || ! -e $file ]] && continue
        [[ $(<"$file") == "$2" ]] && return
    done
    return 1
}
