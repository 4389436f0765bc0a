# shellcheck shell=bash
# As much of AMQP 0-9-1 as a login needs, in bash: a bare machine has no client that could
# tell whether a RabbitMQ takes some credentials.

# amqp_login HOST PORT USER VHOST, password in AMQP_PASSWORD: opens an AMQP 0-9-1 connection
# as far as the virtual host, and says goodbye. An open port proves nothing; this does.
# Runs in a bash of its own under a deadline. Frames are handled as hex, as bash holds no NUL.
amqp_login() {
    set -eu

    hex() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n'; }
    short_string() {
        local text
        text=$(hex "$1")
        printf '%02x%s' $((${#text} / 2)) "$text"
    }
    long_string_hex() { printf '%08x%s' $((${#1} / 2)) "$1"; }
    # A method frame on channel 0: type 1, channel, length, payload, end mark.
    send() {
        local frame
        frame=$(printf '010000%08x%sce' $((${#1} / 2)) "$1")
        # shellcheck disable=SC2001  # Every byte gets its prefix; ${//} cannot do that.
        printf '%b' "$(sed 's/../\\x&/g' <<<"$frame")" >&3
    }
    expect() {
        local header payload
        header=$(head -c 7 <&3 | od -An -v -tx1 | tr -d ' \n')
        [ ${#header} = 14 ]
        payload=$(head -c $((16#${header:6:8} + 1)) <&3 | od -An -v -tx1 | tr -d ' \n')
        [ "${payload:0:8}" = "$1" ]
    }

    local user password
    exec 3<>"/dev/tcp/$1/$2"
    printf 'AMQP\x00\x00\x09\x01' >&3
    expect 000a000a # start
    user=$(hex "$3")
    password=$(hex "$AMQP_PASSWORD")
    # start-ok: no client properties, PLAIN, NUL user NUL password, locale.
    send "000a000b00000000$(short_string PLAIN)$(long_string_hex "00${user}00$password")$(short_string en_US)"
    expect 000a001e # tune: the credentials are taken
    send 000a001f0001000200000000
    send "000a0028$(short_string "$4")0000"
    expect 000a0029 # open-ok: the virtual host is there, and ours to use
    send 000a003200c80000000000
    expect 000a0033 || true # close-ok
}
