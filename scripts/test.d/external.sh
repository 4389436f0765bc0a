# shellcheck shell=bash
# JATIS_TEST_SERVICES=external: servers of the user's, named by five variables. Nothing is started,
# stopped or configured there; the tests make databases and virtual hosts of their own, and remove
# those of each test that passes.

servers_prepare() {
    need_pasted_commands
    local name
    for name in JATIS_TEST_{DATABASE_URL,RABBITMQ_URL,RABBITMQ_TLS_URL,RABBITMQ_MANAGEMENT_URL,CA_FILE}; do
        [[ -n ${!name-} ]] ||
            die "JATIS_TEST_SERVICES=external needs $name, such as $(external_example "$name")"
        # Where the tests look for it.
        export "${name?}"
    done
}

external_example() {
    case $1 in
        JATIS_TEST_DATABASE_URL) echo postgres://USER:PASSWORD@HOST:5432/postgres ;;
        JATIS_TEST_RABBITMQ_URL) echo amqp://USER:PASSWORD@HOST:5672/%2f ;;
        JATIS_TEST_RABBITMQ_TLS_URL) echo amqps://USER:PASSWORD@HOST:5671/%2f ;;
        JATIS_TEST_CA_FILE) echo "/PATH/authority.pem, which vouches for both servers" ;;
        JATIS_TEST_RABBITMQ_MANAGEMENT_URL) echo http://USER:PASSWORD@HOST:15672 ;;
    esac
}

servers_start() { :; }

servers_stop() {
    [[ $1 == good ]] ||
        warn "failed tests have left their databases and virtual hosts, named above, to be looked at"
}
