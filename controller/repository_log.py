"""What administrators learn of one repository: log events, and the lines for ``piehole status``."""

from __future__ import annotations

import time
from itertools import islice
from typing import Final

import structlog

from piehole.errors import EtcdError, Halted
from piehole.group.config import Config
from piehole.group.records import now
from piehole.replicate.local_changes import UNADOPTED, put_back_words, unadopted_fix
from piehole.replicate.reconcile import Report

_SHOWN: Final = 5  # refs in one line of the log
_REMEMBERED: Final = 20  # refs that were put back, for `piehole status` and `piehole check`
_PUT_BACK_FOR: Final = 86400.0  # seconds for which they are told


class RepositoryLog:
    """Logs what changes, once: what stays as it was is not logged at each retry."""

    def __init__(self, config: Config) -> None:
        self.log = structlog.get_logger(repository=str(config.git_dir), group=config.group, site=config.site)
        self._config = config
        self.report: Report | None = None
        self.trouble = ""
        self._peers: dict[str, str] = {}  # the last reason that was logged for a peer
        # Refs that were changed here without a push, the newest last: when that was undone (monotonic seconds), and what to tell.
        self._put_back: dict[str, tuple[float, str]] = {}

    def describe(self, halted: Halted | None) -> list[str]:
        """The lines of the answer to ``piehole status``, each ``WORD REST``."""
        report = self.report
        lines = [f"halted {halted.token} {halted}"] if halted else []
        lines += [f"trouble {' '.join(self.trouble.split())}"] if self.trouble else []
        if report is not None:
            lines.append(f"revision {report.revision}")
            lines += [f"corrupt {' '.join(report.corrupt.split())}"] if report.corrupt else []
            lines += [f"stuck {ref} {' '.join(why.split())}" for ref, why in report.stuck.items()]
        recent = time.monotonic() - _PUT_BACK_FOR
        return lines + [f"put-back {ref} {why}" for ref, (since, why) in self._put_back.items() if since > recent]

    def reconcile_failed(self, error: Exception) -> None:
        text = str(error)
        # The informer logs once that etcd is away; a thousand repositories must not do so at each retry.
        log = self.log.debug if isinstance(error, EtcdError) or text == self.trouble else self.log.warning
        log("reconcile.failed", error=text, kind=type(error).__name__)
        self.trouble = text

    def upkeep_failed(self, event: str, error: Exception) -> None:
        """Log that something other than a reconcile failed: it is tried again later."""
        log = self.log.debug if isinstance(error, EtcdError) else self.log.warning
        log(event, error=str(error))

    def peer_failed(self, site: str, why: str) -> None:
        """Log it once for each reason: such a peer is asked again and again."""
        if self._peers.get(site) != why:
            self.log.warning("peer.failed", peer=site, reason=why)
        self._peers[site] = why

    @property
    def is_corrupt(self) -> bool:
        """Whether the last reconcile has reported that the repository is corrupt."""
        return self.report is not None and bool(self.report.corrupt)

    def _soundness(self, report: Report, before: str) -> None:
        if report.corrupt and not before:
            self.log.error("repository.corrupt", reason=report.corrupt)
        if report.repaired:
            self.log.warning("repository.repaired", reason=report.repaired)

    def reconciled(self, report: Report) -> None:
        known, self.report = self.report, report
        self.trouble = ""
        self._soundness(report, known.corrupt if known else "")
        self._without_push(report, known)
        trouble = (report.stuck, report.locked) != ((known.stuck, known.locked) if known else ({}, {}))
        news = bool(report.moved or report.head or trouble)
        # A ref that a push holds is no news: that push moves it, and this repository is reconciled again at once.
        if not news and not report.deferred:
            return
        self.log.log(
            10 if not news else 30 if report.stuck else 20,
            "reconcile",
            revision=report.revision,
            moved=len(report.moved),
            refs=list(report.moved)[:5],
            peer=",".join(report.peers),
            bytes=report.bytes,
            ms=round(report.seconds * 1000, 1),
            **({"stuck": dict(list(report.stuck.items())[:5])} if report.stuck else {}),
            **({"locked": list(report.locked)[:5]} if report.locked else {}),
            **({"deferred": list(report.deferred)[:5]} if report.deferred else {}),
            **({"kept": list(report.kept)[:5]} if report.kept else {}),
            **({"head": report.head} if report.head else {}),
        )

    def _without_push(self, report: Report, known: Report | None) -> None:
        """Log what was changed here without a push: it was put back, or is at this site alone."""
        undone = put_back_words(str(self._config.git_dir), report.undone)
        if undone:
            shown = {ref: f"it {why}" for ref, why in islice(undone.items(), _SHOWN)}
            self.log.warning("refs.put_back", count=len(undone), refs=shown)
            told = (time.monotonic(), now())
            kept = {ref: why for ref, why in self._put_back.items() if ref not in undone}
            kept |= {ref: (told[0], f"{' '.join(why.split())} ({told[1]})") for ref, why in undone.items()}
            self._put_back = dict(islice(kept.items(), max(0, len(kept) - _REMEMBERED), None))
        alone = [ref for ref in report.unadopted if known is None or ref not in known.unadopted]
        if alone:
            self.log.warning(
                "refs.unadopted", count=len(alone), refs=alone[:_SHOWN], reason=UNADOPTED, fix=unadopted_fix(alone[0])
            )
