# Certificates and keys for the tests of TLS; to be sourced after functions.sh.
# shellcheck shell=bash
#
# A folder of credentials, as tls-creds-x509 and tls-creds-psk want it, is
# named for whoever has it: $T/tls/NAME.

requires certtool --version
requires psktool --version
mkdir -p "$T/tls"

# make_ca NAME
make_ca() {
    cat > "$T/tls/$1.template" <<TEMPLATE
cn = "$1"
ca
cert_signing_key
expiration_days = 2
TEMPLATE
    certtool --generate-privkey --key-type ecdsa --outfile "$T/tls/$1.key"
    certtool --generate-self-signed --load-privkey "$T/tls/$1.key" \
        --template "$T/tls/$1.template" --outfile "$T/tls/$1.pem"
} 2>> "$T/certtool.log"

# make_cert NAME server|client CA TRUSTED [expired]: a certificate signed by
# CA, of somebody who trusts those that TRUSTED signed
make_cert() {
    local name=$1 role=$2 ca=$3 trusted=$4 folder=$T/tls/$1
    local dates='expiration_days = 2'

    [ -z "${5-}" ] || dates=$'activation_date = "2020-01-01 00:00:00"
                              expiration_date = "2020-02-01 00:00:00"'
    mkdir "$folder"
    cat > "$folder/template" <<TEMPLATE
cn = "$name"
dns_name = "localhost"
ip_address = "127.0.0.1"
tls_www_$role
signing_key
$dates
TEMPLATE
    certtool --generate-privkey --key-type ecdsa \
        --outfile "$folder/$role-key.pem"
    certtool --generate-certificate --load-privkey "$folder/$role-key.pem" \
        --load-ca-certificate "$T/tls/$ca.pem" \
        --load-ca-privkey "$T/tls/$ca.key" --template "$folder/template" \
        --outfile "$folder/$role-cert.pem"
    cp "$T/tls/$trusted.pem" "$folder/ca-cert.pem"
} 2>> "$T/certtool.log"

# make_psk NAME: both sides use the same folder
make_psk() {
    mkdir "$T/tls/$1"
    psktool --username qemu --pskfile "$T/tls/$1/keys.psk" > /dev/null
}

# x509 NAME server|client [sanity-check=off]: for -object; the id is NAME
x509() {
    echo "tls-creds-x509,id=$1,endpoint=$2,dir=$T/tls/$1,verify-peer=on" \
        ${3+"$3"} | tr ' ' ,
}

# psk ID server|client NAME
psk() { echo "tls-creds-psk,id=$1,endpoint=$2,dir=$T/tls/$3"; }

# use_tls NAME CREDS [HOSTNAME]: from now on; CREDS '': no TLS
use_tls() {
    monitor "$1" migrate-set-parameters \
        "{\"tls-creds\": \"$2\", \"tls-hostname\": \"${3-}\"}" > /dev/null
}

# uses_tls NAME true|false
uses_tls() {
    [ "$(monitor "$1" query-curling --get tls)" = "$2" ] ||
        fail "$1 does not say \"tls\": $2"
}
