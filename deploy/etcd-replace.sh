#!/bin/sh
# Make room for a member of etcd whose disk was lost, so that its server can be set up anew under the same name.
#
#   sh deploy/etcd-replace.sh SITE        at a server that lives, as etcd's root (ETCDCTL_USER, ETCDCTL_PASSWORD)
#
# ETCDCTL_ENDPOINTS and its like say how etcdctl reaches the cluster. Afterwards, at the lost server, a file etcd.local with the line
# ETCD_INITIAL_CLUSTER_STATE=existing belongs beside `servers` before deploy/three-servers.sh runs there. It may stay.
set -eu
site=${1:?usage: etcd-replace.sh SITE}
export ETCDCTL_API=3
line=$(etcdctl member list | grep ", $site, ") || { echo "etcd-replace: there is no member $site" >&2; exit 1; }
# ID, status, name, peer URLs, client URLs, ...
peer=$(echo "$line" | cut -d, -f4 | tr -d ' ')
etcdctl member remove "${line%%,*}"
etcdctl member add "$site" --peer-urls="$peer"
