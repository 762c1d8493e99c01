#!/bin/sh
# What a peer's ssh key may do: fetch from these repositories, and nothing else. As the command of the key in authorized_keys:
#   restrict,command="sh /usr/local/lib/piehole/ssh-upload-pack.sh /srv/git/project.git" ssh-ed25519 AAAA... git@lima
# Several repositories: name them all. (git-shell alone would do for fetching, too, but it also pushes.)
set -eu
asked=${SSH_ORIGINAL_COMMAND:-nothing}
for repository in "$@"; do
	case $asked in
	"git-upload-pack '$repository'" | "git upload-pack '$repository'") exec git upload-pack --strict "$repository" ;;
	esac
done
echo "ssh-upload-pack: this key may only fetch, and only from: $*" >&2
exit 1
