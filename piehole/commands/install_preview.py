"""What ``piehole install --dry-run`` says: each file, setting and key that would be made or changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from piehole.fastpath import inflight
from piehole.group import keys, rollback_guard
from piehole.group.bulk_write import KeyWrite
from piehole.group.group_state import GroupState
from piehole.group.replica import Replica
from piehole.refs import decode
from piehole.repository import git_settings, hook_files


class Preview:
    """:param anew: the repository is not this site yet; ``registers``: its record in etcd would be written; ``founds``: so would the group's"""

    def __init__(
        self,
        replica: Replica,
        state: GroupState,
        say: Callable[[str], None],
        *,
        anew: bool,
        registers: bool,
        founds: bool,
    ) -> None:
        self._replica = replica
        self._state = state
        self._anew = anew
        self._registers = registers
        self._founds = founds
        self._say_it = say
        self._changes = False

    def show(self, settings: Mapping[str, Sequence[str]], adopted: Sequence[KeyWrite]) -> None:
        """Say what would change, or that nothing would.

        :param settings: those of piehole that would be set
        :param adopted: the refs that would become the group's, which were named already
        """
        self._here(settings)
        self._in_etcd(adopted)
        if not self._changes:
            self._say_it("everything is as it should be")

    def _say(self, sentence: str) -> None:
        self._changes = True
        self._say_it(f"would {sentence}")

    def _here(self, settings: Mapping[str, Sequence[str]]) -> None:
        git_dir = self._replica.git_dir
        if not (git_dir / inflight.FOLDER).is_dir():
            self._say(f"make the folder {git_dir / inflight.FOLDER}")
        for setting in git_settings.missing(git_dir, defaults=True):
            self._say(f"set {setting.name} = {setting.value} ({setting.why})")
        for name, values in settings.items():
            is_new = (name == "siteId" and self._registers) or (name == "groupId" and self._founds)
            self._say(f"set piehole.{name} = {'a new id' if is_new else ', '.join(values)}")
        for path in hook_files.outdated(git_dir):
            self._say(f"write {path}")
        for path in hook_files.unwanted(git_dir):
            self._say(f"remove {path}")
        if self._anew:
            self._say(f"write {git_dir / rollback_guard.FILE}")

    def _in_etcd(self, adopted: Sequence[KeyWrite]) -> None:
        config, keyspace = self._replica.config, self._replica.keyspace
        if self._founds:
            self._say(f"found the group {config.group!r}: the key {decode(keyspace.group(config.group))}")
        refs = decode(keyspace.group_refs(config.group))
        if self._registers:
            site = decode(keyspace.site(config.group, config.site))
            self._say(f"register the site {config.site!r} with the URL {config.url}: the key {site}")
            self._say(f"tell the controllers so: the key {refs}{keys.FENCE}")
        if self._anew:
            self._say(
                f"publish that it has nothing yet: the key {decode(keyspace.progress(config.group, config.site))}"
            )
        for change in adopted:
            self._say(f"adopt {change.name} ({change.after[:12] if change.name != 'HEAD' else change.after})")
        if adopted:
            self._say(f"write these refs and HEAD to keys below {refs}, and who did it to {refs}{keys.PUSH}")
