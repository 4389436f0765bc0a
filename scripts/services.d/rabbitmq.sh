# shellcheck shell=bash
# The private RabbitMQ: a node that shares nothing with the system's own, neither files nor
# cookie, ports nor name server (epmd.sh). It listens on ports of 127.0.0.1 only.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly START_RABBITMQ_SECONDS=120
readonly RABBITMQ_SBIN=/usr/lib/rabbitmq/bin

rabbitmq_installed() { [[ -x $RABBITMQ_SBIN/rabbitmq-server ]]; }

# The node's own pid once it has written it, before that its start script's.
rabbitmq_pid() {
    local pid
    for pid in "$(cat -- "$home/rabbitmq/pid" 2>/dev/null)" "$(recall rabbitmq-pid)"; do
        if process_names "$pid" "$home/rabbitmq"; then
            say "$pid"
            return
        fi
    done
    return 1
}

rabbitmq_start() {
    local user
    user=$(server_user rabbitmq rabbitmq)
    if rabbitmq_pid >/dev/null; then
        epmd_start "$user"
        return
    fi
    if [[ ! -d $home/rabbitmq ]]; then say "Making a RabbitMQ of its own in $home/rabbitmq"; fi
    make_server_dir rabbitmq "$user"
    report_started rabbitmq
    epmd_start "$user"
    rabbitmq_launch "$user"
}

rabbitmq_launch() {
    local user=$1
    free_port amqp-port
    free_port distribution-port
    if [[ $fast == yes ]]; then
        free_port management-port
        free_port amqps-port
        tls_give "$user" "$home/rabbitmq"
    else
        rm -f -- "$home/records"/{management,amqps}-port
    fi
    rabbitmq_configure "$user"
    rm -f -- "$home/rabbitmq/pid"
    (
        # One descriptor per connection, queue and segment: 1024 would not go far.
        ulimit -Sn 65536 || ulimit -n 65536 || ulimit -Sn "$(ulimit -Hn)"
        # Its own session: a terminal's Ctrl-C is not for it. The last two words mean nothing
        # to RabbitMQ; by them the process is recognised as this instance.
        rabbitmq_become "$user" setsid "$RABBITMQ_SBIN/rabbitmq-server" -jatis_home "$home/rabbitmq"
    ) >"$home/rabbitmq/startup.log" 2>&1 </dev/null &
    remember rabbitmq-pid $!
}

rabbitmq_wait() {
    local deadline=$((SECONDS + START_RABBITMQ_SECONDS)) log=$home/rabbitmq/startup.log tries=1
    until rabbitmq_takes "amqp://guest:guest@127.0.0.1:$(recall amqp-port)/%2f"; do
        ((SECONDS < deadline)) ||
            die "RabbitMQ did not answer within ${START_RABBITMQ_SECONDS} s; see $log and $home/rabbitmq/log"
        # Its start script has its name only once this script's child has become it.
        if ! rabbitmq_pid >/dev/null && ! is_alive "$(recall rabbitmq-pid)"; then
            # Someone took a port between our look and its bind: choose again.
            if ((tries++ < 3)) && grep -qsiE 'eaddrinuse|already in use|already_bound' "$log"; then
                rabbitmq_launch "$(server_user rabbitmq rabbitmq)"
            else
                die "RabbitMQ did not start: $(last_words "$log"); see $log"
            fi
        fi
        sleep 0.2
    done
}

rabbitmq_configure() {
    local user=$1
    (become "$user" tee "$home/rabbitmq/rabbitmq.conf") >/dev/null <<END
listeners.tcp.1 = 127.0.0.1:$(recall amqp-port)
tcp_listen_options.backlog = 128
tcp_listen_options.nodelay = true
# Fixed buffers: what the kernel would grow them to is charged for each connection.
tcp_listen_options.sndbuf = 65536
tcp_listen_options.recbuf = 65536
# By default publishing stops when less disk is free than the machine has memory.
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GiB
raft.wal_max_size_bytes = 67108864
log.console = false
log.file = rabbitmq.log
log.file.level = info
log.file.rotation.size = 10485760
log.file.rotation.count = 3
$([[ $fast == no ]] || cat <<FAST
management.tcp.ip = 127.0.0.1
management.tcp.port = $(recall management-port)
management_agent.disable_metrics_collector = true
listeners.ssl.1 = 127.0.0.1:$(recall amqps-port)
ssl_options.certfile = $home/rabbitmq/server.pem
ssl_options.keyfile = $home/rabbitmq/server.key
FAST
)
END
    (become "$user" tee "$home/rabbitmq/enabled_plugins") >/dev/null \
        <<<"[$([[ $fast == no ]] || echo rabbitmq_management)]."
}

# rabbitmq_become USER COMMAND…: `become` with the environment of this node, for it and for
# rabbitmqctl. Nothing of the system's own node is shared: files, cookie, ports, epmd.
# The node's name holds an address, so that no name needs to resolve.
rabbitmq_become() {
    local user=$1 dir=$home/rabbitmq loopback='-kernel inet_dist_use_interface {127,0,0,1}'
    shift
    become "$user" env HOME="$dir" \
        RABBITMQ_NODENAME=jatis@127.0.0.1 RABBITMQ_USE_LONGNAME=true \
        RABBITMQ_CONF_ENV_FILE="$dir/none.conf" RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" \
        RABBITMQ_ADVANCED_CONFIG_FILE="$dir/none.config" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
        RABBITMQ_MNESIA_BASE="$dir/mnesia" RABBITMQ_LOG_BASE="$dir/log" \
        RABBITMQ_GENERATED_CONFIG_DIR="$dir/generated" RABBITMQ_PID_FILE="$dir/pid" \
        RABBITMQ_DIST_PORT="$(recall distribution-port)" \
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="$loopback" RABBITMQ_CTL_ERL_ARGS="$loopback" \
        ERL_EPMD_PORT="$(recall epmd-port)" ERL_EPMD_ADDRESS=127.0.0.1 ERL_CRASH_DUMP_SECONDS=0 \
        "$@"
}

rabbitmqctl() {
    if ! find_home || ! rabbitmq_pid >/dev/null; then
        die "no private RabbitMQ runs; run scripts/services up"
    fi
    rabbitmq_become "$(server_user rabbitmq rabbitmq)" "$RABBITMQ_SBIN/rabbitmqctl" "$@"
}

rabbitmq_stop() {
    local pid found=no patience=$STOP_SECONDS
    while pid=$(rabbitmq_pid); do
        found=yes
        # While it boots it may take no notice of SIGTERM, and holds no data of ours in memory.
        port_is_taken "$(recall amqp-port)" || patience=5
        kill -"$(if_wiping KILL TERM)" "$pid" 2>/dev/null || true
        if ! wait_gone "$pid" "$patience"; then
            kill -KILL "$pid" 2>/dev/null || true
            wait_gone "$pid" 10 || die "RabbitMQ (pid $pid) does not stop; see $home/rabbitmq/log"
        fi
    done
    epmd_stop "$found"
    if [[ $found == yes ]]; then say "RabbitMQ: stopped"; fi
}
