# shellcheck shell=bash
# A throw-away authority, and the certificate that it gives to the private servers: with --fast
# they speak TLS as well. Made once, with the servers' data, and gone with it.
# shellcheck disable=SC2154  # What it does not set, scripts/services or a sibling does.

readonly CERTIFICATE_DAYS=3650

# Made beside its place and moved there when whole.
tls_make() {
    local dir=$home/tls log=$home/tls.log
    if [[ -d $dir ]]; then return; fi
    has openssl || die "no openssl on the PATH; install Debian's package openssl"
    rm -rf -- "$dir.new"
    (umask 022 && mkdir -- "$dir.new")
    tls_certificate_kinds >"$dir.new/openssl.cnf"
    {
        tls_sign authority "$dir.new" &&
            tls_sign server "$dir.new" -CA "$dir.new/authority.pem" -CAkey "$dir.new/authority.key"
    } >"$log" 2>&1 </dev/null || die "openssl makes no certificates: $(last_words "$log"); see $log"
    mv -- "$dir.new" "$dir"
}

# tls_sign KIND FOLDER OPTIONS…: KIND.key and KIND.pem; without further OPTIONS it signs itself.
tls_sign() {
    openssl req -x509 -config "$2/openssl.cnf" -extensions "$1" -subj "/CN=jatis $1" -days "$CERTIFICATE_DAYS" \
        -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout "$2/$1.key" -out "$2/$1.pem" "${@:3}"
}

tls_certificate_kinds() {
    cat <<END
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
END
}

# tls_give USER FOLDER: puts server.pem and server.key where only that user can read them.
tls_give() {
    local file
    tls_make
    for file in server.pem server.key; do
        (umask 077 && become "$1" tee "$2/$file") <"$home/tls/$file" >/dev/null
    done
}
