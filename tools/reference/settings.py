"""docs/reference/settings.md, from the table of piehole's settings and that of Git's which install makes."""

from __future__ import annotations

from collections.abc import Iterator

from piehole.repository import git_settings
from piehole.repository.settings import SETTINGS


def page() -> Iterator[str]:
    yield """\
# Configuration
piehole reads its settings from Git's configuration: `--system` is for a whole server, `--local` for one repository. The
value of the repository takes precedence. If a setting has several values, the values of the narrowest place that sets any
replace those of wider places.

`piehole config` shows all settings, their values, where each comes from, and what was set by mistake. `piehole config NAME
VALUE` sets one in the repository, with `--system` for the server, and refuses a value that piehole could not use; `git
config` works as well. `piehole install` writes the options that it is given into the repository's own configuration.

```console
git@oslo$ piehole config -C /srv/git/tools.git readGate wait
a running controller reads it within five seconds
git@oslo$ piehole config -C /srv/git/tools.git readGate
readGate = wait (local: /srv/git/tools.git/config; default: off)
…
git@oslo$ piehole config -C /srv/git/tools.git --unset readGate
a running controller reads it within five seconds
```

The controller reads a repository's configuration again when that file changes. After a change in a wider place (`--system`,
`--global`), send the controller SIGHUP (`systemctl reload piehole-controller`); after a change of `piehole.root`, restart it.

## Settings

To set several values, repeat the setting (`git config --add`) or separate the values with commas (not for
`piehole.exclude`). Times are in seconds, or have a unit (`10`, `2.5s`, `250ms`, `10m`, `12h`, `7d`, `2w`), here and in all options.

| setting | meaning | default |
| --- | --- | --- |"""
    for row in SETTINGS.values():
        see = f" ([{row.see.partition('#')[0].rpartition('/')[2]}](../{row.see}))" if row.see else ""
        default = ", ".join(f"`{one}`" for one in row.default) or row.otherwise
        yield f"| `piehole.{row.name}` | {row.meaning.removesuffix('.')}{see} | {default} |"
    yield """\

A setting never contains a secret, only the path of a file. The file is read when it is needed, so a renewed certificate
or password needs no restart.

## Settings of the group

These are in etcd, so they are the same at every site. `piehole group set NAME VALUE` changes them, and `piehole group show` shows
them ([copies.md](../guides/copies.md)).

| setting | meaning | default |
| --- | --- | --- |
| `copies` | How many sites hold a commit before the group names it: a number, `majority` or `all` | `1` |
| `copiesElse` | What becomes of a push if fewer sites hold it in time: `refuse`, or `warn` (accept it and say so) | `refuse` |
| `head` | The default branch (`trunk`, or its full name `refs/heads/trunk`) | that of the founding site |

## Git's settings that install makes

`piehole install` makes these settings in the repository's own configuration. `piehole check` reports those that have been changed
since.

| setting | reason |
| --- | --- |"""
    for one in git_settings.SETTINGS:
        yield f"| `{one.name} = {one.value}` | {one.why}{'. Made only where nobody has set it' if one.default else ''} |"
    yield """\

piehole uses these settings of Git in the same way as Git does: `core.sshCommand` (and the variable `GIT_SSH_COMMAND`),
`http.*` and `http.<url>.*` for certificates and proxies, credential helpers, `core.sharedRepository`, `safe.directory`.

## Options of the controller

[piehole controller](commands.md#piehole-controller) lists them. The environment variable `RUNTIME_DIRECTORY` (set by systemd from the
unit file) determines where the socket for the hooks is created: in a folder `piehole` there. Without this variable, the folder is
`piehole-UID` in the folder for temporary files."""
