#!/bin/sh
# Prepare etcd's cluster for a new member that replaces one with the same name whose disk was lost.
#
#   sh deploy/etcd-replace.sh SITE [PEER-URL]     at another server, as etcd's root (ETCDCTL_USER, ETCDCTL_PASSWORD)
#
# ETCDCTL_ENDPOINTS and the other ETCDCTL_ variables say how etcdctl reaches the cluster. PEER-URL is needed only if an earlier run
# ended between its two steps, so that etcd does not know the member any more. Afterwards write
# ETCD_INITIAL_CLUSTER_STATE = "existing" below [etcd.settings] in the new server's setup.toml, and run piehole setup there. It may stay.
set -eu
site=${1:?usage: etcd-replace.sh SITE [PEER-URL]}
peer=${2:-}
export ETCDCTL_API=3
members=$(etcdctl member list)
# ID, status, name, peer URLs, client URLs, ...
if line=$(echo "$members" | grep ", $site, "); then
	peer=$(echo "$line" | cut -d, -f4 | tr -d ' ')
	etcdctl member remove "${line%%,*}"
elif [ -z "$peer" ]; then
	echo "etcd-replace: there is no member $site. If it was removed already, give its peer URL, too: etcd-replace.sh $site URL" >&2
	exit 1
fi
# etcd accepts a new member only when all others have been connected for five seconds. Until then it answers "unhealthy cluster".
tries=30
until said=$(etcdctl member add "$site" --peer-urls="$peer" 2>&1); do
	tries=$((tries - 1))
	case $said in *"unhealthy cluster"*) ;; *) tries=0 ;; esac
	if [ "$tries" -le 0 ]; then
		echo "$said" >&2
		echo "etcd-replace: $site was not added. Try again with: etcd-replace.sh $site $peer" >&2
		exit 1
	fi
	sleep 1
done
echo "$said"
