#!/bin/sh
# piehole hook; `piehole install` writes it and repairs it. To chain another hook, see docs/operations.md.
# What needs no decision is dismissed here: starting Python costs a push 12 ms.
hook=@HOOK@
python=@PYTHON@
entry=@ENTRY@
if [ "$hook" = reference-transaction ]; then
	[ "$1" = prepared ] || exit 0
	# git gc packs loose refs one by one, each with a call of this hook. The parent is git itself, so this is no push.
	# (read drops the NULs between the words.)
	read -r parent 2>/dev/null </proc/$PPID/cmdline
	case $parent in gitpack-refs*) exit 0 ;; esac
fi
if ! [ -x "$python" ] || ! [ -r "$entry" ]; then
	echo "piehole: no-access: piehole has moved away from $python, so no push can be agreed. Run 'piehole install' at this site." >&2
	exit 1
fi
exec "$python" -I -S "$entry" @LIBRARIES@ "$hook" "$@"
