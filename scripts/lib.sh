# shellcheck shell=bash
# What scripts/services, scripts/run and scripts/test share: how they speak, where the clone
# is, what config.yaml says, and how they look at ports and processes. Sourced, never run.
# Nothing here starts or stops anything.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
SELF=$(basename "$0")

# A terminal that has gone must not keep a script from stopping what it started.
say() { printf '%s\n' "$*" 2>/dev/null || true; }

warn() { say "$SELF: $*" >&2; }

# Every failure is one line: what failed, why, and what to do or read.
die() {
    warn "$*"
    exit 1
}

# The line of a log that most likely says why.
last_words() {
    local line
    line=$(grep -sE 'FATAL|[Ee]rror|E:' -- "$1" | tail -n 1) ||
        line=$(grep -sv '^[[:space:]]*$' -- "$1" | tail -n 1) || true
    printf '%s' "${line:-no reason given}"
}

has() { command -v "$1" >/dev/null 2>&1; }

# rustup does not put cargo on the PATH of shells that were open before it ran, nor of CI.
need_cargo() {
    if ! has cargo && [[ -x ${CARGO_HOME:-$HOME/.cargo}/bin/cargo ]]; then
        PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH
    fi
    has cargo || die "no cargo on the PATH; install Rust (https://rustup.rs)"
    has cc || die "no C compiler on the PATH; install Debian's packages gcc and libc6-dev"
}

# config_value SECTION KEY DEFAULT: one value of the configuration file jatis would read.
# Understands what the shipped file uses: two-space nesting, one value a line.
config_value() {
    local file=${JATIS_CONFIG:-$ROOT/config.yaml} value=
    if [[ -r $file ]]; then
        value=$(awk -v section="$1:" -v key="$2:" '
            /^[^ #]/ { inside = ($1 == section) }
            inside && /^  [^ #]/ && $1 == key {
                sub(/^ *[^:]*: */, "")
                sub(/(^| +)#.*$/, "")
                gsub(/^["\x27]|["\x27]$/, "")
                print
                exit
            }' "$file")
    fi
    printf '%s' "${value:-$3}"
}

# shellcheck disable=SC2034  # The variables it sets are for its callers.
# parse_url URL: sets url_user, url_password, url_host, url_port (as written, perhaps empty),
# url_path (without its slash; decoded) and url_query (with its question mark).
parse_url() {
    local shape='^[a-z]+://(([^:@/]*)(:([^@/]*))?@)?(\[[^]]*\]|[^]:/?[]*)(:([0-9]*))?(/([^?]*))?(\?.*)?$'
    [[ $1 =~ $shape ]] || return 1
    url_user=$(url_decode "${BASH_REMATCH[2]}")
    url_password=$(url_decode "${BASH_REMATCH[4]}")
    url_host=$(tr -d '[]' <<<"${BASH_REMATCH[5]}")
    url_port=${BASH_REMATCH[7]}
    url_path=$(url_decode "${BASH_REMATCH[9]}")
    url_query=${BASH_REMATCH[10]}
}

url_decode() {
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}" 2>/dev/null
}

# Whether anything on this machine listens on a TCP port, on whatever address.
port_is_taken() {
    local hex
    hex=$(printf '%04X' "$1")
    # Columns: slot, local address:port, remote, state; 0A is LISTEN.
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$hex" '$4 == "0A" && $2 ~ ":" port "$" { found = 1 } END { exit !found }'
}

# A process that has ended but that nobody has reaped yet (state Z) is not alive.
is_alive() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
    [[ ${stat##*) } != Z* ]]
}

# process_names PID WORD: whether that process is alive and WORD is one of its arguments.
# A recorded pid is believed, and signalled, only after this: pids are used again.
process_names() {
    [[ $1 =~ ^[0-9]+$ ]] && is_alive "$1" &&
        tr '\0' '\n' <"/proc/$1/cmdline" 2>/dev/null | grep -qxF -- "$2"
}

# wait_gone PID SECONDS: false when the process outlives the wait.
wait_gone() {
    local deadline=$((SECONDS + $2))
    while is_alive "$1"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}
