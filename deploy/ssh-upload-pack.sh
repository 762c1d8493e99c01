#!/bin/sh
# Restricts a peer's ssh key to fetching from the given repositories. Use it as the command of the key in authorized_keys:
#   restrict,command="sh /usr/local/lib/piehole/ssh-upload-pack.sh /srv/git/project.git" ssh-ed25519 AAAA... git@lima
# For several repositories, list all of them. (git-shell alone would also allow pushing.) There is no read gate here: if each of two
# sites waited until it has everything before it served the other one, neither would get anything.
set -eu
asked=${SSH_ORIGINAL_COMMAND:-nothing}
for repository in "$@"; do
	case $asked in
	"git-upload-pack '$repository'" | "git upload-pack '$repository'") exec git upload-pack --strict "$repository" ;;
	esac
done
echo "ssh-upload-pack: this key may only fetch, and only from: $*" >&2
exit 1
