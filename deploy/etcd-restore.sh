#!/bin/sh
# Restore an etcd member from a snapshot, if a majority of the members cannot be brought back. Run it at every server of the cluster, as
# root, with the same file.
#
#   sh deploy/etcd-restore.sh SNAPSHOT
#
# The existing data is moved aside, never deleted. The settings are those of /etc/default/etcd. docs/guides/etcd.md
# describes what piehole reports afterwards and what to do then.
set -eu
snapshot=${1:?usage: etcd-restore.sh SNAPSHOT}
[ -r "$snapshot" ] || { echo "etcd-restore: $snapshot cannot be read" >&2; exit 2; }
. /etc/default/etcd
systemctl stop etcd
[ ! -e "$ETCD_DATA_DIR" ] || mv "$ETCD_DATA_DIR" "$ETCD_DATA_DIR.before-$(date +%Y-%m-%d-%H%M%S)"
# The token differs from that of the old cluster and is the same at every server, so members of the two clusters never mix.
ETCDCTL_API=3 etcdctl snapshot restore "$snapshot" --name "$ETCD_NAME" --data-dir "$ETCD_DATA_DIR" \
	--initial-cluster "$ETCD_INITIAL_CLUSTER" --initial-advertise-peer-urls "$ETCD_INITIAL_ADVERTISE_PEER_URLS" \
	--initial-cluster-token "piehole-$(sha256sum <"$snapshot" | cut -c1-16)"
chown -R etcd:etcd "$ETCD_DATA_DIR"
# It is ready when a majority of the members has been restored.
systemctl start --no-block etcd
