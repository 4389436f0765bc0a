# shellcheck shell=bash
# JATIS_TEST_SERVICES=local: private instances under .jatis/test, new for each run and gone after
# it, from packages that are installed where they are missing.
# shellcheck disable=SC2154  # What it does not set, scripts/test does.

readonly SERVERS=(scripts/services --private --fast --dir "$ROOT/.jatis/test")

# In the foreground, where sudo can ask for a password. These are the commands that the documents
# use, which a test pastes as they are (pg_dump comes with psql), and openssl, which makes the
# servers' certificates.
servers_prepare() { "${SERVERS[@]}" packages curl psql openssl 8>&-; }

servers_start() {
    step servers "${SERVERS[@]}" wipe || give_up "an earlier run's servers are in the way"
    step servers "${SERVERS[@]}" up || give_up "no servers to test against"
    eval "$("${SERVERS[@]}" env)"
    # Tests make databases of their own, starting from one that is always there.
    export JATIS_TEST_DATABASE_URL=${DATABASE_URL%/*}/postgres
    export JATIS_TEST_RABBITMQ_URL=$RABBITMQ_URL
    export JATIS_TEST_RABBITMQ_MANAGEMENT_URL=$RABBITMQ_MANAGEMENT_URL
    export JATIS_TEST_RABBITMQ_TLS_URL=$RABBITMQ_TLS_URL
    export JATIS_TEST_CA_FILE=$TLS_CA_FILE
    unset DATABASE_URL RABBITMQ_URL RABBITMQ_MANAGEMENT_URL RABBITMQ_TLS_URL TLS_CA_FILE
}

servers_stop() {
    if [[ $1 == good ]]; then
        "${SERVERS[@]}" wipe 8>&-
        return
    fi
    warn "the servers' logs and data are kept until the next run; scripts/services --dir .jatis/test status says where"
    "${SERVERS[@]}" down 8>&-
}
