#!/bin/sh
# The space of etcd's database: report it, defragment a member, or make a full cluster take writes again.
#
#   sh deploy/etcd-space.sh check [PERCENT]   status 1 where a member's database has more than PERCENT (75) of its quota, or etcd has an alarm
#   sh deploy/etcd-space.sh defragment        give free pages back to the disk, one member after the other
#   sh deploy/etcd-space.sh recover           after "database space exceeded": compact, defragment, disarm the alarm NOSPACE
#
# ETCDCTL_ENDPOINTS (all members) and the other ETCDCTL_ variables say how etcdctl reaches the cluster; with authentication on, `defragment`
# and `recover` need root (ETCDCTL_USER, ETCDCTL_PASSWORD). QUOTA is ETCD_QUOTA_BACKEND_BYTES of deploy/etcd.env if it is not set.
# A member answers nothing while it is defragmented: seconds for each GiB. For cron, once a week at one server:
#   17 3 * * 0 root . /etc/etcd/etcdctl.env && sh /opt/piehole/deploy/etcd-space.sh defragment
set -eu
export ETCDCTL_API=3
quota=${QUOTA:-4294967296}

# One line for each member: SIZE (bytes) ENDPOINT
sizes() {
	etcdctl endpoint status --write-out=fields | sed -n 's/^"DBSize" : //p; s/^"Endpoint" : "\(.*\)"$/\1/p' | paste -d ' ' - -
}

defragment() {
	sizes | while read -r _ endpoint; do
		ETCDCTL_ENDPOINTS=$endpoint etcdctl --command-timeout=300s defrag </dev/null
	done
}

case ${1:-} in
check)
	sizes | {
		status=0
		while read -r size endpoint; do
			echo "$endpoint: $size bytes, $((size * 100 / quota)) % of $quota"
			[ $((size * 100 / quota)) -le "${2:-75}" ] || status=1
		done
		alarms=$(etcdctl alarm list)
		[ -z "$alarms" ] || { echo "$alarms" && status=1; }
		exit $status
	}
	;;
defragment) defragment ;;
recover)
	revision=$(etcdctl get / --write-out=json | sed 's/.*"revision":\([0-9]*\).*/\1/')
	etcdctl compact "$revision" || echo "etcd-space: compacted already"
	defragment
	etcdctl alarm disarm
	;;
*)
	echo "usage: etcd-space.sh check [PERCENT] | defragment | recover" >&2
	exit 2
	;;
esac
