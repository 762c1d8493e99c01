#!/bin/sh
# Create etcd's users: one user per site, one role per prefix. Then switch etcd's authentication on. May be run again.
#
#   sh deploy/etcd-auth.sh SERVERS FOLDER [PREFIX]
#
# `piehole setup` runs this at the first server. SERVERS is a list whose lines begin with a site's name. FOLDER has a password file for
# each site and for root: the folder auth that `piehole setup --keys` makes.
# ETCDCTL_ENDPOINTS, ETCDCTL_CACERT, ETCDCTL_CERT and ETCDCTL_KEY say how etcdctl reaches the cluster.
# For sites that do not trust these, run it again with another list and another PREFIX. They get a role of their own.
set -eu
[ $# -ge 2 ] || { echo "usage: etcd-auth.sh SERVERS FOLDER [PREFIX]" >&2; exit 2; }
servers=$1 folder=$2 prefix=${3:-/piehole}
role=piehole$(printf %s "${prefix#/piehole}" | tr / -)
export ETCDCTL_API=3

# Passwords are passed in the environment or a pipe, never as arguments, because every account can see those.
etcdctl_as_root() {
	if [ -n "$on" ]; then
		ETCDCTL_USER=root ETCDCTL_PASSWORD=$(cat "$folder/root") etcdctl "$@"
	else
		etcdctl "$@"
	fi
}

# add_user NAME: create the user with the password of its file, or set this password if the user exists
add_user() {
	if etcdctl_as_root user get "$1" >/dev/null 2>&1; then
		etcdctl_as_root user passwd "$1" --interactive=false <"$folder/$1"
	else
		etcdctl_as_root user add "$1" --interactive=false <"$folder/$1"
	fi
}

# While authentication is off, everybody may list the users. When it is on, this needs a password.
if etcdctl user list >/dev/null 2>&1; then on=; else on=yes; fi

[ -n "$on" ] || add_user root
etcdctl_as_root role get root >/dev/null 2>&1 || etcdctl_as_root role add root
etcdctl_as_root user grant-role root root >/dev/null
etcdctl_as_root role get "$role" >/dev/null 2>&1 || etcdctl_as_root role add "$role"
etcdctl_as_root role grant-permission "$role" --prefix=true readwrite "$prefix/" >/dev/null
while read -r site _; do
	case $site in '' | '#'*) continue ;; esac
	add_user "$site"
	etcdctl_as_root user grant-role "$site" "$role" >/dev/null
done <"$servers"
[ -n "$on" ] || etcdctl auth enable
