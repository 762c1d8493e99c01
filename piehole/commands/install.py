"""``piehole install``: check a repository, found or join its group, write hooks and settings. Running it again repairs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from piehole.commands.adopt_refs import Adoption
from piehole.commands.install_preview import Preview
from piehole.deadline import Deadline
from piehole.errors import WRONG_GROUP, Halted, PieholeError, UsageError
from piehole.etcd.client import Etcd
from piehole.etcd.model import Compare, Delete, Operation, Put
from piehole.fastpath import inflight
from piehole.files import lock
from piehole.git import shared_mode
from piehole.group import config as configuration
from piehole.group import keys, progress, promise, records, rollback_guard, sites
from piehole.group.config import Config
from piehole.group.group_state import GroupState
from piehole.group.records import GroupRecord, PushRecord, SiteRecord
from piehole.group.replica import Replica
from piehole.repository import fitness, git_settings, hook_files
from piehole.repository.git_settings import GitConfig
from piehole.repository.repository import Repository
from piehole.transfer.urls import parse_url

_PATIENCE: Final = 10.0  # seconds for each question to etcd
_ROUNDS: Final = 5  # of adopting while others push


@dataclass(frozen=True, slots=True)
class InstallRequest:
    """What the administrator asked for. ``adopt``: None, or the refs to adopt; empty means all that can be adopted without moving a ref back.

    ``dry``: only say what would change.
    """

    git_dir: Path
    overrides: dict[str, str | Sequence[str]]
    adopt: tuple[str, ...] | None = None
    replace: bool = False
    pusher: str = ""
    dry: bool = False


class Installer:
    """Installs one repository. ``say`` gets a sentence for each step that was done."""

    def __init__(self, request: InstallRequest, say: Callable[[str], None]) -> None:
        self._request = request
        self._say = say

    def run(self) -> Replica:
        """Install the repository. Two runs at once go one after the other, else one site id would be stored here and another in etcd.

        :raises UsageError: a setting is missing or malformed
        :raises PieholeError: the repository cannot be served, or group and repository do not fit
        :raises EtcdError: etcd could not be used
        """
        try:
            folder = os.open(self._request.git_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise PieholeError(f"{self._request.git_dir} cannot be opened: {error.strerror}") from error
        try:
            lock(folder)
            return self._install()
        finally:
            os.close(folder)

    def _install(self) -> Replica:
        git_dir = self._request.git_dir
        for warning in fitness.refuse_unfit(git_dir):
            self._say(f"warning: {warning}")
        hook_files.refuse_foreign(git_dir)
        config = self._config()
        Repository(git_dir, config.object_format).check_owner()
        # Whether this repository was a site of its group before, whatever its configuration says now.
        known = bool(config.group_id) and rollback_guard.load(git_dir).published is not None
        replica = Replica.of(config, Etcd(config.etcd, config.credentials))
        state = replica.reader.list_group(Deadline(_PATIENCE))
        group = self._group(replica, state, known)
        founding = state.group is None or group.extra.get("adopting") == config.site
        replica = Replica.of(replace(config, group_id=group.id, site_id=self._site_id(config, state)), replica.etcd)
        adoption = Adoption(replica, self._request.adopt, self._request.pusher, self._say)
        # Objects that piehole fetched are complete. Others, such as a copy made during pushes, may not be.
        adoption.check(founding=founding, whole=not self._took_part(git_dir, config))
        before = GitConfig(git_dir)
        config, anew = replica.config, self._is_anew(replica.config, before) or not known or self._was_away(state)
        if self._request.dry:
            record = self._site_record(config, state)
            registers = anew or state.site is None or record != SiteRecord.parse(state.site.value)
            preview = Preview(replica, state, self._say, anew=anew, registers=registers, founds=state.group is None)
            preview.show(self._settings(config, before), adoption.preview(state, founding=founding))
            return replica
        self._configure(replica, before)
        if state.group is None:
            self._found(replica, group)
        self._register(replica, state, anew=anew, empty=not known or self._request.replace)
        if group.promises_copies:
            self._say_promise(replica, group, state, anew=anew)
        if founding:
            adoption.found()
        if anew:
            progress.publish(replica, 0, Deadline(_PATIENCE), takeover=True)
        if not founding:
            adoption.join()
        if not GitConfig(git_dir).one("piehole.maxdeletes"):
            self._say(
                "suggestion: `git config piehole.maxDeletes 100` here refuses a push that deletes more than 100 refs, as a mirror push "
                "from an old clone does (0: no limit, and no more suggestion)"
            )
        return replica

    def _took_part(self, git_dir: Path, config: Config) -> bool:
        """Whether this repository has already published progress under this site name, in any group."""
        former = GitConfig(git_dir).local("piehole.site"), GitConfig(git_dir).local("piehole.siteid")
        return former[0] == config.site and bool(former[1]) and rollback_guard.load(git_dir).published is not None

    def _was_away(self, state: GroupState) -> bool:
        """Whether this site was made to leave. Then the group has not waited for it, and its old progress no longer counts."""
        return state.site is not None and SiteRecord.parse(state.site.value).left

    def _config(self) -> Config:
        git_dir = self._request.git_dir
        found = GitConfig(git_dir)
        config = configuration.parse(git_dir, found, self._request.overrides, ("group", "site", "url", "etcd"))
        former = found.local("piehole.group"), found.local("piehole.site")
        if former[0] not in ("", config.group):
            config = replace(config, group_id="", site_id="")
        elif former[1] not in ("", config.site):
            # A copy of another site's repository, or a site that changes its name: its state file is not that of the new site.
            config = replace(config, site_id="")
            if "url" not in self._request.overrides and config.url == found.local("piehole.url"):
                raise UsageError(
                    f"this repository's piehole.url, {config.url}, is that of the site {former[1]!r}, which it was (or was copied from). "
                    f"Give --url: where the other sites fetch from the site {config.site!r}."
                )
            self._say(
                f"note: this repository was the site {former[1]!r}; if that is no more, `piehole leave --site {former[1]}`"
            )
        peer = parse_url(config.url, (*config.allow_protocol, "ssh", "https", "http", "git", "file"))
        if peer.protocol == "file":
            # Whoever gives a path to the other sites has them on this machine, too.
            config = replace(config, allow_protocol=tuple(dict.fromkeys((*config.allow_protocol, "file"))))
        elif peer.protocol not in config.allow_protocol:
            self._say(
                f"note: peers fetch over {peer.protocol} only where piehole.allowProtocol has it "
                f"(git config --add piehole.allowProtocol {peer.protocol})"
            )
        return config

    def _group(self, replica: Replica, state: GroupState, known: bool) -> GroupRecord:
        """The group's record: the one in etcd, or the one to create.

        :param known: this repository was a site of a group of this name
        """
        config = replica.config
        if state.group is None:
            if known:
                raise Halted(
                    WRONG_GROUP,
                    f"{config.git_dir} belongs to the group {config.group!r} (id {config.group_id}), and this etcd has no record of it: "
                    "it was emptied, or it is another etcd. If it is the right one, `piehole clobber` at the site that is right restores "
                    "the record. If this repository shall begin a new group, run `piehole uninstall` here first.",
                )
            return GroupRecord(config.group_id or str(uuid.uuid4()), config.object_format, {"adopting": config.site})
        record = GroupRecord.parse(state.group.value)
        halted = rollback_guard.check_renamed(config.group, record)
        if halted is not None:
            raise halted
        if record.object_format != config.object_format:
            raise PieholeError(
                f"the group {config.group!r} has {record.object_format} objects and {config.git_dir} has {config.object_format}: "
                f"they can never agree. Make the repository with `git init --bare --object-format={record.object_format}`."
            )
        if known and config.group_id != record.id:
            raise Halted(
                WRONG_GROUP,
                f"{config.git_dir} joined another group of the name {config.group!r} (id {config.group_id}); etcd has the id {record.id}. "
                "If etcd is the right one, run `piehole uninstall` here first, then install again.",
            )
        return record

    def _site_id(self, config: Config, state: GroupState) -> str:
        """This site's id: the one it has, or a new one where the name is free."""
        if state.site is None:
            return config.site_id or str(uuid.uuid4())
        record = SiteRecord.parse(state.site.value)
        if self._request.replace and not record.left:
            # Even if the id or the URL is the same: the former machine may be alive, and this disk a copy of its disk.
            return str(uuid.uuid4())
        # The same name and URL with no id of its own: the site was emptied and is installed anew.
        if config.site_id == record.id or (not config.site_id and record.url == config.url) or record.left:
            return record.id if not record.left or config.site_id == record.id else str(uuid.uuid4())
        raise PieholeError(
            f"the site name {config.site!r} is taken: its repository is at {record.url}. Choose another name, "
            "or take the name over from a machine that is gone with `piehole install --replace`."
        )

    def _is_anew(self, config: Config, before: GitConfig) -> bool:
        """Whether this repository was not this site before."""
        ids = before.local("piehole.siteid"), before.local("piehole.groupid")
        return ids != (config.site_id, config.group_id)

    def _configure(self, replica: Replica, before: GitConfig) -> None:
        """Write hooks, folders and configuration."""
        config, git_dir = replica.config, replica.git_dir
        self._make_folders(git_dir, before.one("core.sharedrepository"))
        for setting in git_settings.apply(git_dir):
            self._say(f"set {setting.name} = {setting.value} ({setting.why})")
        for name, values in self._settings(config, before).items():
            if name == "allowProtocol":
                self._say(f"set piehole.allowProtocol = {', '.join(values)} (the URL of this site is a path)")
            git_settings.write(git_dir, name, values)
        changed = hook_files.write(git_dir)
        self._say(f"hooks: wrote {', '.join(changed)}" if changed else "hooks: as they should be")

    def _settings(self, config: Config, before: GitConfig) -> dict[str, Sequence[str]]:
        """The settings piehole.* that the repository lacks, or has with another value."""
        values: dict[str, Sequence[str]] = {
            "groupId": [config.group_id],
            "site": [config.site],
            "siteId": [config.site_id],
            "url": [config.url],
        }
        if config.prefix != before.one("piehole.prefix", keys.DEFAULT_PREFIX):
            values["prefix"] = [config.prefix]
        wanted = {name: new for name, new in values.items() if before.local(f"piehole.{name.lower()}") != new[0]}
        if "file" in config.allow_protocol and "file" not in before.many("piehole.allowprotocol"):
            wanted["allowProtocol"] = config.allow_protocol
        for name in ("etcd", "etcdCA", "etcdCert", "etcdKey", "etcdUser", "etcdPasswordFile"):
            asked = self._request.overrides.get(name.lower())
            given = (asked,) if isinstance(asked, str) else tuple(asked or ())
            known = before.local(f"piehole.{name.lower()}") and before.narrowest(f"piehole.{name.lower()}")
            if given and known != given:
                wanted[name] = given
        # Last: a controller finds the repository by this setting, and must not serve it half configured.
        if before.local("piehole.group") != config.group:
            wanted["group"] = [config.group]
        return wanted

    def _make_folders(self, git_dir: Path, shared: str) -> None:
        """The folder of in-flight records, with the mode that core.sharedRepository asks for: every pusher writes there."""
        mode = shared_mode(shared)
        for folder in (git_dir / "piehole", git_dir / inflight.FOLDER):
            folder.mkdir(exist_ok=True)
            # Only the owner writes the other files there.
            folder.chmod(mode if folder.name != "piehole" else mode & ~0o022)

    def _found(self, replica: Replica, group: GroupRecord) -> None:
        key = replica.keyspace.group(replica.config.group)
        if not replica.etcd.txn([Compare(key)], [Put(key, group.dump())], deadline=Deadline(_PATIENCE)).succeeded:
            raise PieholeError(
                f"somebody else founded the group {replica.config.group!r} at this very moment. Run `piehole install` again to join it."
            )
        self._say(f"founded the group {replica.config.group!r}")

    def _say_promise(self, replica: Replica, group: GroupRecord, state: GroupState, *, anew: bool) -> None:
        config = replica.config
        counted = promise.members(sites.list_sites(replica, Deadline(_PATIENCE)))
        was_site = state.site is not None and not SiteRecord.parse(state.site.value).left
        former = counted if was_site else {name: id_ for name, id_ in counted.items() if name != config.site}
        now, before = promise.words(group, counted), promise.words(group, former)
        self._say(f"the group promises copies: {now}{f'; before, {before}' if now != before else ''}")
        if anew and not was_site and promise.needed(group, counted) > max(1, promise.needed(group, former)):
            self._say(
                "note: until this site has everything, pushes that need its copy may be refused (copies:). To avoid that, "
                "`piehole group set copies …` a lower number until `piehole sites` shows it in step"
            )
        elif anew and was_site:
            self._say(
                f"note: the copies that the site {config.site!r} had do not count any more: until this site has everything, "
                "some commits are at one site fewer"
            )

    def _site_record(self, config: Config, state: GroupState) -> SiteRecord:
        if state.site is None:
            return SiteRecord(config.site_id, config.url).limited(config.limits)
        before = SiteRecord.parse(state.site.value)
        record = replace(before, id=config.site_id, url=config.url, left=False).limited(config.limits)
        return record.replacing(before, records.now()) if self._request.replace and not before.left else record

    def _register(self, replica: Replica, state: GroupState, *, anew: bool, empty: bool) -> None:
        """:param empty: what the former disk of this site has published says nothing of this one"""
        config = replica.config
        key = replica.keyspace.site(config.group, config.site)
        record = self._site_record(config, state)
        # A new site writes its record in any case, so that a reaping that relied on its old progress fails.
        if state.site is not None and record == SiteRecord.parse(state.site.value) and not anew:
            self._say(f"the site {config.site!r} is registered with the URL {config.url}")
            return
        found = state.site.mod_revision if state.site else 0
        # All controllers watch the fence. Those that wait for objects which only this site has (its old URL was wrong, or it was
        # down) retry now, and not when their next retry is due.
        heard = PushRecord.create(config.site, "registered", self._request.pusher)
        news: list[Operation] = (
            [Put(replica.keyspace.ref(config.group, keys.FENCE), heard.dump())] if anew or state.site else []
        )
        if empty:
            news.append(Delete(replica.keyspace.progress(config.group, config.site)))
        if not replica.etcd.txn(
            [Compare(key, mod_revision=found)], [Put(key, record.dump()), *news], deadline=Deadline(_PATIENCE)
        ).succeeded:
            raise PieholeError(
                f"somebody else changed the record of the site {config.site!r} at this very moment. Run `piehole install` again."
            )
        self._say(f"registered the site {config.site!r} with the URL {config.url}")
