# shellcheck shell=bash
# The servers as containers of docker compose: the last resort, for a machine that can have
# neither package.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

compose() {
    local JATIS_POSTGRES_PORT JATIS_RABBITMQ_PORT
    JATIS_POSTGRES_PORT=$(compose_port postgres) JATIS_RABBITMQ_PORT=$(compose_port rabbitmq)
    export JATIS_POSTGRES_PORT JATIS_RABBITMQ_PORT
    timeout "${compose_seconds:-300}" docker compose --project-name "$(compose_project)" --file "$ROOT/docker-compose.yml" "$@" 9>&-
}

# The port it was given before, else any free one.
compose_port() {
    local port
    if [[ -e $state_dir/compose-$1 ]]; then
        cat -- "$state_dir/compose-$1"
        return
    fi
    until port=$((21000 + RANDOM % 11000)) && ! port_is_taken "$port"; do :; done
    say "$port"
}

compose_project() { printf 'jatis-%s' "$(basename "$(elsewhere)")"; }

compose_start() {
    local log=$state_dir/compose.log
    if "$1_url" >/dev/null; then return; fi
    say "Starting $1 with docker compose"
    compose_port "$1" >"$state_dir/compose-$1.new"
    mv -- "$state_dir/compose-$1.new" "$state_dir/compose-$1"
    compose up --detach --wait --wait-timeout 180 "$1" >"$log" 2>&1 </dev/null ||
        die "docker compose up $1 failed: $(last_words "$log"); see $log"
    report_started "$1"
}

compose_knows() { [[ $private_only == no && -e $state_dir/compose-$1 ]]; }

docker_answers() {
    [[ $private_only == no ]] && has docker &&
        timeout 10 docker info >/dev/null 2>&1 && timeout 10 docker compose version >/dev/null 2>&1
}

# Only what compose_start made; its volume, and so the data, stays for the next up.
compose_stop() {
    compose_knows "$1" && [[ -n $(compose ps --quiet --status running "$1" 2>/dev/null) ]] || return 0
    compose stop "$1" >/dev/null 2>&1 </dev/null || die "docker compose stop $1 failed"
    say "$1: container stopped"
}

# compose_url SERVICE PORT PREFIX SUFFIX
compose_url() {
    local address
    compose_knows "$1" || return 1
    address=$(compose_seconds=10 compose port "$1" "$2" 2>/dev/null) && [[ -n $address ]] || return 1
    say "compose $3$address$4"
}
