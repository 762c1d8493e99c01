#!/bin/sh
# What a user's ssh key may do: fetch (behind the read gate), push, and `piehole wait`. Use it as the command of the key in authorized_keys:
#   restrict,command="GL_USER=mira sh /usr/local/lib/piehole/ssh-git.sh" ssh-ed25519 AAAA... mira@example.org
# Beside it belongs read-gate.pl, copied to /usr/local/lib/piehole/upload-pack; without that, `piehole upload-pack` starts 25 ms later.
# A peer's key gets ssh-upload-pack.sh instead, which has no gate.
set -euf
PATH=${0%/*}:$PATH
asked=${SSH_ORIGINAL_COMMAND:-nothing}
case $asked in
"git-upload-pack '"*"'" | "git upload-pack '"*"'")
	repository=${asked#*\'}
	repository=${repository%\'}
	case $repository in *\'*) repository= ;; esac # a name with a quote in it; git quotes that in another way
	if [ -n "$repository" ]; then
		! command -v upload-pack >/dev/null || exec upload-pack "$repository"
		exec piehole upload-pack "$repository"
	fi
	;;
"git-receive-pack "* | "git receive-pack "* | "git-upload-archive "* | "git upload-archive "*)
	exec git-shell -c "$asked"
	;;
"piehole wait" | "piehole wait "*)
	# Only these options: --etcd would send the server's password to whoever is named.
	set -- ${asked#piehole }
	for word in "$@"; do
		case $word in
		-C | --sites | --timeout) ;;
		-*) asked= ;;
		esac
	done
	[ -z "$asked" ] || exec piehole "$@"
	;;
esac
echo "ssh-git: this key may fetch, push, and run: piehole wait -C REPO [REF [OID]] [--sites SITE...] [--timeout TIME]" >&2
exit 1
