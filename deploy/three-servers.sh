#!/bin/sh
#: # Three servers in ten minutes
#:
#: A worked example: three Debian servers become three sites of one group, with TLS between all of them, passwords in
#: etcd, and users who push over ssh or https. One script, `deploy/three-servers.sh`, does all of this. This page is generated
#: from the script, so it shows exactly what runs. The tests run the script as well, on three virtual hosts.
#:
#: **On your own machine**, in a checkout of piehole, write a file `servers` with a line for each server: the name of the
#: site, the host name that clients use, and the address.
#:
#: ```
#: oslo  oslo.example.org   192.0.2.11
#: lima  lima.example.org   192.0.2.12
#: kyoto kyoto.example.org  192.0.2.13
#: ```
#:
#: For each user, write `users/NAME.pub` (an ssh key), `users/NAME.password` (a password for https), or both. Then create
#: the certificates and passwords, and copy the checkout and the server's own part of them to each server. The first server
#: also gets `pki/auth`, which contains the passwords of all etcd users. The script removes it after it has created the users.
#:
#: ```
#: sh deploy/pki.sh servers pki
#: for site in oslo lima kyoto; do
#:     tar -c --exclude=pki --exclude=.venv . | ssh root@$site.example.org 'mkdir -p piehole && tar -xC piehole'
#:     tar -c pki/$site | ssh root@$site.example.org 'tar -xC piehole'
#: done
#: tar -c pki/auth | ssh root@oslo.example.org 'tar -xC piehole'
#: ```
#:
#: **On each server**, run this as root. Start it on all three at about the same time, because they wait for each other:
#:
#: ```
#: cd piehole && sh deploy/three-servers.sh oslo       # lima, kyoto on the others
#: ```
#:
#: You can run the script again at any time: it repairs what is wrong and changes nothing else. Ports 22 and
#: 443 must be open to users, and ports 443, 2379 and 2380 between the servers.
#:
#: Then users can clone from any machine. (`ca.pem` is `pki/authority/ca.pem`. It is not needed if the servers have publicly trusted
#: certificates.)
#:
#: ```
#: git clone ssh://git@oslo.example.org/srv/git/project.git
#: git -c http.sslCAInfo=ca.pem clone https://lima.example.org/project.git
#: ```
#:
#: The rest of this page is the script, step by step.
set -eu
site=${1:?usage: three-servers.sh SITE}
here=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$here"
group=${PIEHOLE_GROUP:-project}
repository=/srv/git/$group.git
patience=${PIEHOLE_PATIENCE:-600} # seconds that one server waits for the others
export PATH="$PATH:/usr/local/bin:/usr/local/sbin:/usr/sbin:/sbin"

#: ## Names and addresses
#:
#: The file `servers` contains this server's own name and address, and the addresses at which etcd's members find each other. The
#: first server in the list does the steps that are needed only once.

servers() { grep -v -e '^#' -e '^[[:space:]]*$' servers; }
host=$(servers | awk -v site="$site" '$1 == site { print $2 }')
address=$(servers | awk -v site="$site" '$1 == site { print $3 }')
first=$(servers | awk 'NR == 1 { print $1 }')
members=$(servers | awk '{ printf "%s%s=https://%s:2380", sep, $1, $2; sep = "," }')
# This server's own member first: as long as it works, no other need be asked.
endpoints=https://$host:2379$(servers | awk -v site="$site" '$1 != site { printf ",https://%s:2379", $2 }')
[ -n "$host" ] || { echo "three-servers: no line of $here/servers begins with $site" >&2; exit 2; }

say() { echo "three-servers: $site: $*"; }

# put FILE MODE OWNER: standard input becomes the file; true where that changed it
put() {
	cat >"$1.new"
	chmod "$2" "$1.new"
	chown "$3" "$1.new"
	if cmp -s "$1.new" "$1"; then
		rm "$1.new"
		return 1
	fi
	mv "$1.new" "$1"
}

# wait_until WHAT COMMAND...: try until it succeeds, or patience ends
wait_until() {
	what=$1 until=$(($(date +%s) + patience))
	shift
	until "$@" >/dev/null 2>&1; do
		if [ "$(date +%s)" -ge "$until" ]; then
			say "waited $patience s in vain until $what. The last try said:" >&2
			"$@" >&2 || exit 1
		fi
		sleep 0.5
	done
}

#: ## Programs
#:
#: Programs come from the distribution. piehole is installed into its own environment. Programs that are already installed are not changed.

missing=
need() { command -v "$1" >/dev/null || missing="$missing $2"; }
need git git
need sshd openssh-server
need nginx nginx-light
need fcgiwrap fcgiwrap
need etcd etcd-server
need etcdctl etcd-client
need openssl openssl
python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$missing python3-venv"
# shellcheck disable=SC2086 # several packages
[ -z "$missing" ] || apt-get install -y --no-install-recommends $missing
if ! command -v piehole >/dev/null; then
	python3 -m venv /opt/piehole
	/opt/piehole/bin/pip install --quiet "$here"
	ln -sf /opt/piehole/bin/piehole /usr/local/bin/piehole
fi

#: ## Accounts
#:
#: The account `git` owns the repositories, receives pushes and runs the controller. The account `etcd` runs etcd. Nobody can log in
#: to `git` with a password, and ssh keys allow only pushing and fetching.

install -d -m 755 /etc/sysusers.d /etc/tmpfiles.d
put /etc/sysusers.d/piehole.conf 0644 root:root <deploy/sysusers.conf || true
put /etc/tmpfiles.d/piehole.conf 0644 root:root <deploy/tmpfiles.conf || true
systemd-sysusers piehole.conf
systemd-tmpfiles --create piehole.conf
# No password fits "*"; a locked account ("!") could take no key, either.
[ "$(getent shadow git | cut -d: -f2)" = '*' ] || usermod --password '*' git
as_git() { (cd / && setpriv --reuid git --regid git --init-groups --reset-env "$@"); }

#: ## Keys, certificates, the password
#:
#: Each file is readable only by the account that needs it. Users with accounts of their own on this server push through the
#: controller's socket and need none of these files.

secret() { [ ! -e "pki/$site/$1" ] || put "/etc/piehole/$1" 0400 "$2" <"pki/$site/$1" || true; }
[ ! -e "pki/$site/ca.pem" ] || put /etc/piehole/ca.pem 0644 root:root <"pki/$site/ca.pem" || true
for name in server peer; do
	secret $name.pem etcd:etcd
	secret $name-key.pem etcd:etcd
done
secret client.pem git:git
secret client-key.pem git:git
secret etcd-password git:git

#: ## etcd
#:
#: `deploy/etcd.env` has the settings that piehole needs. The script adds the settings of this member. Both listeners require
#: a certificate of our authority. A member is ready only when a majority of the members has been started. So the script does not wait
#: for the start of the service, but until the cluster answers.

install -d -m 755 /etc/default
{
	cat deploy/etcd.env
	cat <<EOF

# --- This server (the last word counts)
ETCD_NAME=$site
ETCD_LISTEN_CLIENT_URLS=https://$address:2379,https://127.0.0.1:2379
ETCD_ADVERTISE_CLIENT_URLS=https://$host:2379
ETCD_LISTEN_PEER_URLS=https://$address:2380
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$host:2380
ETCD_INITIAL_CLUSTER=$members
ETCD_INITIAL_CLUSTER_TOKEN=piehole-$group
ETCD_CERT_FILE=/etc/piehole/server.pem
ETCD_KEY_FILE=/etc/piehole/server-key.pem
ETCD_TRUSTED_CA_FILE=/etc/piehole/ca.pem
ETCD_CLIENT_CERT_AUTH=true
ETCD_PEER_CERT_FILE=/etc/piehole/peer.pem
ETCD_PEER_KEY_FILE=/etc/piehole/peer-key.pem
ETCD_PEER_TRUSTED_CA_FILE=/etc/piehole/ca.pem
ETCD_PEER_CLIENT_CERT_AUTH=true
EOF
	# Of your own, such as the times for members that are far apart.
	if [ -e etcd.local ]; then cat etcd.local; fi
} >etcd.env.new
restart=
put /etc/default/etcd 0644 root:root <etcd.env.new && restart=yes
rm etcd.env.new
put /etc/systemd/system/etcd.service 0644 root:root <deploy/etcd.service && restart=yes
systemctl daemon-reload
systemctl enable etcd
if [ -n "$restart" ]; then systemctl restart --no-block etcd; else systemctl start --no-block etcd; fi

export ETCDCTL_API=3 ETCDCTL_ENDPOINTS="https://$host:2379" ETCDCTL_CACERT=/etc/piehole/ca.pem
export ETCDCTL_CERT=/etc/piehole/client.pem ETCDCTL_KEY=/etc/piehole/client-key.pem
as_site() { ETCDCTL_USER=$site ETCDCTL_PASSWORD=$(cat /etc/piehole/etcd-password) etcdctl "$@"; }
# Before authentication is on, etcd answers with just that: then it has a majority, too.
etcd_answers() {
	said=$(as_site get /piehole/ 2>&1) || case $said in *"authentication is not enabled"*) ;; *) echo "$said" >&2 && false ;; esac
}
say "waiting for etcd's majority"
wait_until "etcd has a majority" etcd_answers

#: ## Users of etcd
#:
#: The first server creates a user for each site and one role for all keys below `/piehole/`, and switches authentication on. The
#: other servers wait for that.

if [ "$site" = "$first" ] && [ -d pki/auth ]; then
	sh deploy/etcd-auth.sh servers pki/auth
	rm -r pki/auth
fi
say "waiting for etcd's users"
wait_until "etcd knows the user $site and asks for passwords" as_site get /piehole/

#: ## Settings of piehole and git for all repositories of this server
#:
#: `safe.directory` is needed by users who have accounts of their own on this server. When the account `git` fetches from the web
#: servers of the other sites, it uses the certificate of this server.

git config --system piehole.site "$site"
git config --system piehole.root /srv/git
git config --system piehole.etcd "$endpoints"
git config --system piehole.etcdCA /etc/piehole/ca.pem
git config --system piehole.etcdCert /etc/piehole/client.pem
git config --system piehole.etcdKey /etc/piehole/client-key.pem
git config --system piehole.etcdUser "$site"
git config --system piehole.etcdPasswordFile /etc/piehole/etcd-password
git config --system --replace-all safe.directory "$repository" "^$repository\$"
as_git git config --global http.sslCAInfo /etc/piehole/ca.pem
as_git git config --global http.sslCert /etc/piehole/client.pem
as_git git config --global http.sslKey /etc/piehole/client-key.pem

#: ## The repository
#:
#: The account `git` owns the repository. Users with accounts of their own can push if they are in the Unix group `git`
#: ([security.md](../explanation/security.md) says for whom that is). The first server founds the group, and the others join it.

[ -d "$repository" ] || as_git git init --quiet --bare --shared=group --initial-branch=main "$repository"
group_is_founded() { as_site get --keys-only "/piehole/group/$group" | grep -q .; }
[ "$site" = "$first" ] || wait_until "$first has founded the group $group" group_is_founded
as_git piehole install "$repository" --group "$group" --site "$site" --url "https://$host/$group.git"

#: ## The controller

put /etc/systemd/system/piehole-controller.service 0644 root:root <deploy/piehole-controller.service && systemctl daemon-reload
systemctl enable --now piehole-controller

#: ## https
#:
#: Users log in with a name and a password. The `git` accounts of the other sites use a certificate, which allows only fetching
#: (`deploy/nginx.conf`).

for unit in piehole-http.socket piehole-http.service; do
	put /etc/systemd/system/$unit 0644 root:root <deploy/$unit && systemctl daemon-reload
done
systemctl enable --now piehole-http.socket
for file in users/*.password; do
	[ ! -e "$file" ] || printf '%s:%s\n' "$(basename "$file" .password)" "$(openssl passwd -apr1 -stdin <"$file")"
done >htpasswd.new
# Passwords are salted anew each time, so nobody can tell whether they changed: the file is always written.
install -m 0640 -o root -g www-data htpasswd.new /etc/piehole/htpasswd
rm htpasswd.new
sed -e "s/@HOST@/$host/; s/@ADDRESS@/$address/" deploy/nginx.conf |
	put /etc/nginx/conf.d/piehole.conf 0644 root:root || true
systemctl enable nginx
systemctl reload-or-restart nginx

#: ## ssh
#:
#: There is one account, with one key for each user, and a key allows nothing but Git. `piehole log` shows the name of
#: the key's file. A client cannot choose another name.

put /etc/ssh/sshd_config.d/piehole.conf 0644 root:root <deploy/sshd.conf || true
for file in users/*.pub; do
	[ ! -e "$file" ] || printf 'restrict,command="GL_USER=%s git-shell -c \\"$SSH_ORIGINAL_COMMAND\\"" %s\n' \
		"$(basename "$file" .pub)" "$(cat "$file")"
done | put /home/git/.ssh/authorized_keys 0600 git:git || true
ssh-keygen -q -A
systemctl enable ssh
systemctl reload-or-restart ssh

#: ## Check the result
#:
#: `piehole check` examines hooks, settings, file owners, every etcd endpoint and every peer. The other servers may not be ready
#: yet, so the script repeats the check until it finds no problem.

say "waiting for the other sites"
wait_until "piehole check finds no fault" as_git piehole check "$repository"
say "ready: ssh://git@$host$repository and https://$host/$group.git"
