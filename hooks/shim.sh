#!/bin/sh
# piehole hook; `piehole install` writes it and repairs it. To chain another hook, see docs/guides/hooks.md.
# What needs no decision is dismissed here, and what the push's helper decides is asked of it: starting Python costs a push 12 ms.
hook=@HOOK@
python=@PYTHON@
entry=@ENTRY@

# hooks/helper.py says what is asked and answered. Its pid is in the in-flight record of this receive-pack, which made it. In another
# container that shares this volume the same pids are other processes: so the helper has this very receive-pack's folder open.
ask() {
	for record in "${GIT_DIR:-.}"/piehole/inflight/*."$PPID".*; do
		[ -O "$record" ] || continue
		for _ in 1 2 3 4 5 6 7 8; do # before it, there may be what the push has waited, for whom, and its first ref
			read -r word helper requests answers && [ "$word" != helper ] || break
		done <"$record"
		[ "$word" = helper ] && [ "/proc/$helper/fd/$((answers + 2))" -ef "/proc/$PPID" ] || continue
		# All commands of the push may pass. The gate is looked at each time: without it, they would move unagreed.
		if [ "$hook" = update ] && [ -p "/proc/$helper/fd/$((answers + 1))" ] &&
			[ -x "${GIT_DIR:-.}/hooks/reference-transaction" ]; then
			printf '%s\n' "$$ passed $*" >"/proc/$helper/fd/$requests" && exit 0
		fi
		{
			printf '%s\n' "$$ $hook $*" >&8 || return 0
			asked=1
			while read -r whom status words <&9; do
				[ "$whom" = $$ ] && return 0
			done
			status=
			return 0
		} 8>"/proc/$helper/fd/$requests" 9<"/proc/$helper/fd/$answers"
	done
}

[ "$hook" != reference-transaction ] || [ "$1" = prepared ] || exit 0
if [ "$hook" != pre-receive ]; then
	trap '' PIPE # a helper that ends while it is asked
	asked= status=
	ask "$@" 7<&0 2>/dev/null # while it reads the answer, its standard input is the pipe
	case $status in
	0 | 1)
		[ -z "$words" ] || printf '%s\n' "$words" >&2
		exit "$status"
		;;
	'')
		if [ -n "$asked" ] && [ "$hook" = reference-transaction ]; then
			echo "piehole: unknown: the process that decides about this push ended; look (git fetch) before pushing again" >&2
			exit 1
		fi
		;;
	esac
fi
[ "$hook" != post-receive ] || exit 0 # without a helper, nothing is announced
if [ "$hook" = reference-transaction ]; then
	# git gc packs loose refs one by one, each with a call of this hook. The parent is git itself, so this is no push.
	# (read drops the NULs between the words.)
	read -r parent 2>/dev/null </proc/$PPID/cmdline
	case $parent in gitpack-refs*) exit 0 ;; esac
fi
if ! [ -x "$python" ] || ! [ -r "$entry" ]; then
	[ "$hook" != pre-receive ] || exit 0
	echo "piehole: no-access: piehole is no longer at $python; run 'piehole install' at this site" >&2
	exit 1
fi
exec "$python" -I -S "$entry" @LIBRARIES@ "$hook" "$@"
