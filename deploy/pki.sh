#!/bin/sh
# Create one certificate authority, and for each server its certificates and its etcd password.
#
#   sh deploy/pki.sh SERVERS FOLDER
#
# SERVERS is a file with a line for each server: its site's name, its host name, its address. Run this on the
# administrator's own machine and keep FOLDER there: whoever has authority/key.pem can sign certificates that the servers trust. Existing files
# are not changed. To add a server, add its line and run this again. To renew a certificate, delete its file first.
#
#   FOLDER/authority/ca.pem, key.pem    the authority; the key never leaves this machine
#   FOLDER/SITE/                        copy it to that server only:
#     ca.pem                              the authority's certificate
#     server.pem, server-key.pem          for etcd (connections from clients) and for the web server
#     peer.pem, peer-key.pem              for etcd (connections between members)
#     client.pem, client-key.pem          for piehole: connections to etcd, and fetches from the web servers of other sites
#     etcd-password                       the password of the etcd user SITE
#   FOLDER/auth/                        the passwords of all etcd users and of root: for deploy/etcd-auth.sh. Then keep it in a safe place
set -eu
umask 077
[ $# -eq 2 ] || { echo "usage: pki.sh SERVERS FOLDER" >&2; exit 2; }
servers=$1 folder=$2
days=${PIEHOLE_PKI_DAYS:-825}

make_authority() {
	mkdir -p "$folder/authority"
	[ -e "$folder/authority/ca.pem" ] && return
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -days 3650 \
		-subj "/O=piehole/CN=piehole authority" \
		-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign \
		-keyout "$folder/authority/key.pem" -out "$folder/authority/ca.pem" 2>/dev/null
}

# make_certificate SITE KIND USES NAMES
# No certificate has a CN: while authentication is on, etcd's JSON gateway refuses clients whose certificate has one.
# The names are in the subject alternative names.
make_certificate() {
	base=$folder/$1/$2
	[ -e "$base.pem" ] && return
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256 -subj "/O=piehole" \
		-keyout "$base-key.pem" -out "$base.csr" 2>/dev/null
	cat >"$base.ext" <<EOF
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectAltName = $4
authorityKeyIdentifier = keyid
EOF
	openssl x509 -req -sha256 -days "$days" -in "$base.csr" -extfile "$base.ext" -out "$base.new" \
		-CA "$folder/authority/ca.pem" -CAkey "$folder/authority/key.pem" -set_serial "0x$(openssl rand -hex 16)" 2>/dev/null
	rm "$base.csr" "$base.ext"
	mv "$base.new" "$base.pem"
}

make_password() {
	[ -e "$1" ] || openssl rand -hex 24 >"$1"
}

make_authority
mkdir -p "$folder/auth"
make_password "$folder/auth/root"
while read -r site host address _; do
	case $site in '' | '#'*) continue ;; esac
	mkdir -p "$folder/$site"
	cp "$folder/authority/ca.pem" "$folder/$site/ca.pem"
	names="DNS:$host, IP:$address"
	# clientAuth as well, because etcd's gateway is a client of its own member and uses the member's certificate.
	make_certificate "$site" server "serverAuth, clientAuth" "$names, DNS:localhost, IP:127.0.0.1"
	make_certificate "$site" peer "serverAuth, clientAuth" "$names"
	make_certificate "$site" client "clientAuth" "DNS:$host"
	make_password "$folder/auth/$site"
	cp "$folder/auth/$site" "$folder/$site/etcd-password"
done <"$servers"
