# shellcheck shell=bash
# JATIS_TEST_SERVICES=external: servers of the user's, named by three variables. Nothing is started,
# stopped or configured there; the tests make databases and virtual hosts of their own, and remove
# those of each test that passes.

servers_prepare() {
    need_curl
    local name
    for name in JATIS_TEST_DATABASE_URL JATIS_TEST_RABBITMQ_URL JATIS_TEST_RABBITMQ_MANAGEMENT_URL; do
        [[ -n ${!name-} ]] ||
            die "JATIS_TEST_SERVICES=external needs $name, such as $(external_example "$name")"
    done
    # Inherited as they are.
    export JATIS_TEST_DATABASE_URL JATIS_TEST_RABBITMQ_URL JATIS_TEST_RABBITMQ_MANAGEMENT_URL
}

external_example() {
    case $1 in
        JATIS_TEST_DATABASE_URL) echo postgres://USER:PASSWORD@HOST:5432/postgres ;;
        JATIS_TEST_RABBITMQ_URL) echo amqp://USER:PASSWORD@HOST:5672/%2f ;;
        JATIS_TEST_RABBITMQ_MANAGEMENT_URL) echo http://USER:PASSWORD@HOST:15672 ;;
    esac
}

servers_start() { :; }

servers_stop() {
    [[ $1 == good ]] ||
        warn "failed tests have left their databases and virtual hosts, named above, to be looked at"
}
