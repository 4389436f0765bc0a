# shellcheck shell=bash
# The private PostgreSQL: made once, started and stopped with its data kept. It listens on a
# port of 127.0.0.1 only, with a password that is made with it.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly START_POSTGRES_SECONDS=60

postgres_installed() { compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }

# Sets postgres_bin: of the version that made the data, if there is any, else the newest.
find_postgres_bin() {
    local version='*'
    if find_home && [[ -r $home/postgres/data/PG_VERSION ]]; then
        version=$(<"$home/postgres/data/PG_VERSION")
    fi
    postgres_bin=$(compgen -G "/usr/lib/postgresql/$version/bin/initdb" | sort -V | tail -n 1) || true
    postgres_bin=${postgres_bin%/initdb}
    [[ -n $postgres_bin ]]
}

postgres_pid() {
    local pid
    pid=$(head -n 1 -- "$home/postgres/data/postmaster.pid" 2>/dev/null) || return 1
    process_names "$pid" "$home/postgres/data" && say "$pid"
}

postgres_start() {
    local user data=$home/postgres/data log=$home/postgres/log tries
    user=$(server_user postgres postgres)
    if postgres_pid >/dev/null; then
        postgres_wait
        return
    fi
    find_postgres_bin ||
        die "the data in $data was made by PostgreSQL $(<"$data/PG_VERSION"); install postgresql-$(<"$data/PG_VERSION") or move that folder away"
    make_server_dir postgres "$user"
    [[ -d $data ]] || postgres_initialize "$user"
    # Left by a server that was killed: its pid is not the server's, as we have just seen,
    # but PostgreSQL would take any other process of its user for a server still alive.
    rm -f -- "$data/postmaster.pid"

    report_started postgres
    for ((tries = 0; tries < 3; tries++)); do
        free_port postgres-port
        postgres_configure "$user"
        mv -f -- "$log" "$log.1" 2>/dev/null || true
        if (become "$user" "$postgres_bin/pg_ctl" start -s -w -t "$START_POSTGRES_SECONDS" -D "$data" -l "$log") >/dev/null 2>&1 </dev/null; then
            return
        fi
        # Someone took the port between our look and its bind: choose again.
        grep -qs 'Address already in use' "$log" || break
    done
    die "PostgreSQL did not start within ${START_POSTGRES_SECONDS} s: $(last_words "$log"); see $log"
}

postgres_wait() {
    local port deadline=$((SECONDS + START_POSTGRES_SECONDS))
    port=$(recall postgres-port)
    find_postgres_bin || return 0
    until (become "$(id -un)" "$postgres_bin/pg_isready" -q -h 127.0.0.1 -p "$port" -t 3); do
        ((SECONDS < deadline)) || die "PostgreSQL runs but does not answer on 127.0.0.1:$port; see $home/postgres/log"
        sleep 0.2
    done
}

# Made beside its place and moved there when whole: an interrupted initdb leaves no data.
postgres_initialize() {
    local user=$1 dir=$home/postgres log=$home/postgres/initdb.log
    say "Making a PostgreSQL of its own in $dir"
    rm -rf -- "$dir/data.new"
    remember postgres-password "$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')"
    recall postgres-password | (become "$user" tee "$dir/password") >/dev/null
    (become "$user" timeout 120 "$postgres_bin/initdb" -D "$dir/data.new" -U jatis \
        --pwfile="$dir/password" -A scram-sha-256 -E UTF8 --locale=C.UTF-8) >"$log" 2>&1 </dev/null ||
        die "initdb failed: $(last_words "$log"); see $log"
    rm -f -- "$dir/password"
    (become "$user" tee -a "$dir/data.new/postgresql.conf") <<<"include 'jatis.conf'" >/dev/null
    mv -- "$dir/data.new" "$dir/data"
}

postgres_configure() {
    if [[ $fast == yes ]]; then tls_give "$1" "$home/postgres/data"; fi
    (become "$1" tee "$home/postgres/data/jatis.conf") >/dev/null <<END
listen_addresses = '127.0.0.1'
port = $(recall postgres-port)
# No socket: paths of sockets are limited to 107 bytes, those of clones are not.
unix_socket_directories = ''
max_connections = $([[ $fast == yes ]] && echo 400 || echo 200)
log_line_prefix = '%m [%p] %u@%d '
$([[ $fast == no ]] || cat <<FAST
fsync = off
full_page_writes = off
synchronous_commit = off
ssl = on
ssl_cert_file = 'server.pem'
ssl_key_file = 'server.key'
FAST
)
END
}

# Fast shutdown: clients are disconnected, their transactions rolled back, data written.
postgres_stop() {
    local pid
    pid=$(postgres_pid) || return 0
    kill -"$(if_wiping QUIT INT)" "$pid"
    if ! wait_gone "$pid" "$STOP_SECONDS"; then
        # Immediate shutdown: the next start recovers from the log, nothing committed is lost.
        kill -QUIT "$pid" 2>/dev/null || true
        wait_gone "$pid" 10 || die "PostgreSQL (pid $pid) does not stop; see $home/postgres/log"
    fi
    say "PostgreSQL: stopped"
}
