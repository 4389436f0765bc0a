# shellcheck shell=bash
# JATIS_TEST_SERVICES=containers: both servers from images, on this machine's Docker. The program
# jatis-test-containers starts them, and removes them when the pipe to its stdin ends: also when
# this script is killed.
# shellcheck disable=SC2154  # What it does not set, scripts/test does.

readonly CONTAINERS_STOP_SECONDS=60

containers_pid=

servers_prepare() { need_pasted_commands; }

servers_start() {
    local program=${CARGO_TARGET_DIR:-target}/debug/jatis-test-containers exports
    step containers cargo build --package jatis-tests --features containers --bin jatis-test-containers ||
        give_up "the program that starts containers does not build"
    say "Starting the servers as containers"
    mkfifo "$scratch/hold" "$scratch/exports"
    # A process group of its own: a Ctrl-C is for this script, which then lets go.
    set -m
    "$program" "$ROOT/.jatis/test" "${JATIS_TEST_POSTGRES_IMAGE:-postgres:17}" \
        "${JATIS_TEST_RABBITMQ_IMAGE:-rabbitmq:4.0-management}" \
        <"$scratch/hold" >"$scratch/exports" 8>&- &
    containers_pid=$!
    set +m
    # Held by this script alone: however it ends, the kernel closes this.
    exec 7>"$scratch/hold"
    # One line for each variable, or fewer when it has failed and said why.
    mapfile -n 5 -t exports <"$scratch/exports"
    ((${#exports[@]} == 5)) || give_up "no servers to test against"
    eval "$(printf '%s\n' "${exports[@]}")"
}

servers_stop() {
    [[ -n $containers_pid ]] || return 0
    [[ $1 == good ]] || warn "the servers' logs are kept until the next run: .jatis/test/*.log"
    exec 7>&-
    wait_gone "$containers_pid" "$CONTAINERS_STOP_SECONDS"
}
