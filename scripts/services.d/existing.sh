# shellcheck shell=bash
# The servers that are there already: those the environment names, and those that answer at
# config.yaml's URLs and take the credentials there. They are asked, never started or stopped.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly POSTGRES_DEFAULT_URL=postgres://jatis:jatis@127.0.0.1:5432/jatis
readonly RABBITMQ_DEFAULT_URL=amqp://guest:guest@127.0.0.1:5672/%2f

# from_environment NAME…: the first of these variables that is set, or the content of the
# file that its _FILE companion names: what jatis itself does with them.
from_environment() {
    local name file
    for name in "$@"; do
        if [[ -n ${!name-} ]]; then
            printf '%s' "${!name}"
            return
        fi
        file=${name}_FILE
        if [[ -n ${!file-} ]]; then
            cat -- "${!file}"
            return
        fi
    done
    return 1
}

check_url_files() {
    local name
    for name in {JATIS__DATABASE__URL,DATABASE_URL,JATIS__RABBITMQ__URL,RABBITMQ_URL}_FILE; do
        [[ -z ${!name-} || -r ${!name} ]] || die "cannot read $name=${!name}"
    done
}

postgres_elsewhere() {
    local url
    if url=$(from_environment JATIS__DATABASE__URL DATABASE_URL); then
        say "environment $url"
        return
    fi
    url=$(config_value database url "$POSTGRES_DEFAULT_URL")
    postgres_takes "$url" || return 1
    say "configured $url"
}

# The server may lack the database: jatis creates it, so `postgres` answers for it. Without
# psql nothing here can speak SCRAM, and the server counts as not answering.
postgres_takes() {
    local psql=psql base
    if find_postgres_bin; then psql=$postgres_bin/psql; fi
    has "$psql" && parse_url "$1" || return 1
    base=${1%%\?*}
    base=${base%"/${base#*://*/}"}
    postgres_answers "$psql" "$1" || postgres_answers "$psql" "${base%/}/postgres$url_query"
}

# As much TLS is asked for as jatis asks for.
postgres_answers() {
    PGSSLMODE=$(config_value database sslmode prefer) PGSSLROOTCERT=$(config_value database ca_file '') \
        PGCONNECT_TIMEOUT=3 timeout 5 "$1" -X -w -qAt -d "$2" -c 'SELECT 1' >/dev/null 2>&1 </dev/null
}

rabbitmq_elsewhere() {
    local url
    if url=$(from_environment JATIS__RABBITMQ__URL RABBITMQ_URL); then
        say "environment $url"
        return
    fi
    url=$(config_value rabbitmq url "$RABBITMQ_DEFAULT_URL")
    rabbitmq_takes "$url" || return 1
    say "configured $url"
}

rabbitmq_takes() {
    parse_url "$1" || return 1
    if [[ $1 == amqps://* ]]; then
        # TLS is beyond this script: an open port is believed, jatis says the rest.
        timeout 3 bash -c "exec 3<>/dev/tcp/$url_host/${url_port:-5671}" 2>/dev/null
        return
    fi
    AMQP_PASSWORD=${url_password:-guest} timeout 5 bash -c "$(declare -f amqp_login); amqp_login \"\$@\"" amqp_login \
        "$url_host" "${url_port:-5672}" "${url_user:-guest}" "${url_path:-/}" 2>/dev/null </dev/null
}
