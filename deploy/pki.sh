#!/bin/sh
# Make what the servers prove themselves with: one authority, and for each server its certificates and its password in etcd.
#
#   sh deploy/pki.sh SERVERS FOLDER
#
# SERVERS is a file with a line for each server: its site's name, its host name, its address. Run this on one machine, the
# administrator's own, and keep FOLDER there: authority/key.pem signs whatever is to be trusted. What is there already
# is left as it is, so a server that is added later needs one more line and one more run; to renew a certificate, delete its file first.
#
#   FOLDER/authority/ca.pem, key.pem    the authority; the key never leaves this machine
#   FOLDER/SITE/                        goes to that server, and nowhere else:
#     ca.pem                              whom to trust
#     server.pem, server-key.pem          etcd towards its clients; the web server
#     peer.pem, peer-key.pem              etcd towards its other members
#     client.pem, client-key.pem          piehole towards etcd, and towards the other sites' web servers when it fetches
#     etcd-password                       of etcd's user SITE
#   FOLDER/auth/                        passwords of all of etcd's users, and of root: for deploy/etcd-auth.sh, then for a safe
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
# None has a CN: etcd's JSON gateway, which piehole speaks to, refuses clients whose certificate carries one while
# authentication is on. Who is meant stands in the alternative names.
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
	# clientAuth, too: etcd's gateway is a client of its own member, with the member's certificate.
	make_certificate "$site" server "serverAuth, clientAuth" "$names, DNS:localhost, IP:127.0.0.1"
	make_certificate "$site" peer "serverAuth, clientAuth" "$names"
	make_certificate "$site" client "clientAuth" "DNS:$host"
	make_password "$folder/auth/$site"
	cp "$folder/auth/$site" "$folder/$site/etcd-password"
done <"$servers"
