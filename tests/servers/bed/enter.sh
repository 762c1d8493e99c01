#!/bin/sh
# Begin a host: run as root in fresh network, mount, pid, uts and ipc namespaces, which it furnishes.
#   enter.sh NAME TREE PYTHON INIT SEEN...
# TREE is the host's own file tree. The machine's programs (/usr) and the paths SEEN are there as well, read-only; nothing else is.
set -eu
name=$1 tree=$2 python=$3 init=$4
shift 4

hostname "$name"
mount --make-rprivate /
mount --bind "$tree" "$tree"
mount --bind -o ro /usr "$tree/usr"
if [ -d "$tree/local-bin" ]; then mount --bind "$tree/local-bin" "$tree/usr/local/bin"; fi
# Administrators may add to this one; what is there already stays.
mkdir -p "$tree/local-lib"
for kept in /usr/local/lib/*; do
	if [ -d "$kept" ]; then mkdir -p "$tree/local-lib/${kept##*/}" && mount --bind -o ro "$kept" "$tree/local-lib/${kept##*/}"; fi
done
mount --rbind "$tree/local-lib" "$tree/usr/local/lib"
mount -t proc proc "$tree/proc"
mount -t tmpfs -o mode=755 run "$tree/run"
mount -t tmpfs -o mode=1777 tmp "$tree/tmp"
mount -t tmpfs -o mode=755 dev "$tree/dev"
for device in null zero full random urandom tty; do
	: >"$tree/dev/$device"
	mount --bind "/dev/$device" "$tree/dev/$device"
done
ln -s /proc/self/fd "$tree/dev/fd"
mkdir -m 1777 "$tree/dev/shm"
for seen in "$@"; do
	if [ -d "$seen" ]; then mkdir -p "$tree$seen"; else mkdir -p "$tree${seen%/*}" && : >"$tree$seen"; fi
	mount --bind -o ro "$seen" "$tree$seen"
done

cd "$tree"
mkdir -p .machine
pivot_root . .machine
cd /
umount -l /.machine
rmdir /.machine
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
	"$python" -I -S "$init"
