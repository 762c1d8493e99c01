#!/bin/sh
# Put a member of etcd back to a snapshot: for when no majority can be brought back. Run it at every server of the cluster, as
# root, with the same file.
#
#   sh deploy/etcd-restore.sh SNAPSHOT
#
# The data that is there is moved aside, never deleted. The settings are those of /etc/default/etcd. What piehole says afterwards, and what
# to type then: docs/operations.md, "etcd: backup, restore, emptied".
set -eu
snapshot=${1:?usage: etcd-restore.sh SNAPSHOT}
[ -r "$snapshot" ] || { echo "etcd-restore: $snapshot cannot be read" >&2; exit 2; }
. /etc/default/etcd
systemctl stop etcd
[ ! -e "$ETCD_DATA_DIR" ] || mv "$ETCD_DATA_DIR" "$ETCD_DATA_DIR.before-$(date +%Y-%m-%d-%H%M%S)"
# The token makes this another cluster than the one before, and the same one at every server: members of the two never mix.
ETCDCTL_API=3 etcdctl snapshot restore "$snapshot" --name "$ETCD_NAME" --data-dir "$ETCD_DATA_DIR" \
	--initial-cluster "$ETCD_INITIAL_CLUSTER" --initial-advertise-peer-urls "$ETCD_INITIAL_ADVERTISE_PEER_URLS" \
	--initial-cluster-token "piehole-$(sha256sum <"$snapshot" | cut -c1-16)"
chown -R etcd:etcd "$ETCD_DATA_DIR"
# It is ready when a majority of the members has been put back.
systemctl start --no-block etcd
