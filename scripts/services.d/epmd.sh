# shellcheck shell=bash
# The private RabbitMQ's epmd, Erlang's name server. By default there is one per machine,
# started by whoever comes first and never stopped; this node has its own, on its own port,
# gone with it.

epmd_pid() {
    local pid
    pid=$(recall epmd-pid) || return 1
    process_names "$pid" "$(recall epmd-port)" && say "$pid"
}

epmd_start() {
    local port deadline=$((SECONDS + 10))
    if epmd_pid >/dev/null; then return; fi
    # A running node keeps looking for it where it was, and may have replaced it already.
    rabbitmq_pid >/dev/null || free_port epmd-port
    port=$(recall epmd-port)
    if port_is_taken "$port"; then return; fi
    (become "$1" setsid epmd -address 127.0.0.1 -port "$port") >/dev/null 2>&1 </dev/null &
    remember epmd-pid $!
    # The node would start one of its own if it came first.
    until port_is_taken "$port"; do
        ((SECONDS < deadline)) || die "Erlang's epmd does not listen on 127.0.0.1:$port"
        sleep 0.05
    done
}

epmd_stop() {
    local pid port
    if pid=$(epmd_pid); then
        kill -TERM "$pid" 2>/dev/null || true
        wait_gone "$pid" 10 || die "epmd (pid $pid) does not stop"
    fi
    # A node that misses its epmd starts another one at the same port; only a node that we
    # have just stopped ourselves proves that what answers there is ours.
    port=$(recall epmd-port) || return 0
    if [[ $1 == yes ]] && port_is_taken "$port"; then
        (become "$(id -un)" env ERL_EPMD_PORT="$port" ERL_EPMD_ADDRESS=127.0.0.1 timeout 10 epmd -kill) >/dev/null 2>&1 || true
    fi
}
