"""What administrators learn of one repository: log events, and the lines for ``piehole status``."""

from __future__ import annotations

import structlog

from piehole.errors import EtcdError, Halted
from piehole.group.config import Config
from piehole.replicate.reconcile import Report


class RepositoryLog:
    """Logs what changes, once: what stays as it was is not logged at each retry."""

    def __init__(self, config: Config) -> None:
        self.log = structlog.get_logger(repository=str(config.git_dir), group=config.group, site=config.site)
        self._report: Report | None = None
        self._trouble = ""
        self._peers: dict[str, str] = {}  # the last reason that was logged for a peer

    def describe(self, halted: Halted | None) -> list[str]:
        """The lines of the answer to ``piehole status``, each ``WORD REST``."""
        report = self._report
        lines = [f"halted {halted.token} {halted}"] if halted else []
        lines += [f"trouble {' '.join(self._trouble.split())}"] if self._trouble else []
        if report is not None:
            lines.append(f"revision {report.revision}")
            lines += [f"stuck {ref} {' '.join(why.split())}" for ref, why in report.stuck.items()]
        return lines

    def reconcile_failed(self, error: Exception) -> None:
        text = str(error)
        # The informer logs once that etcd is away; a thousand repositories must not do so at each retry.
        log = self.log.debug if isinstance(error, EtcdError) or text == self._trouble else self.log.warning
        log("reconcile.failed", error=text, kind=type(error).__name__)
        self._trouble = text

    def upkeep_failed(self, event: str, error: Exception) -> None:
        """Log that something other than a reconcile failed: it is tried again later."""
        log = self.log.debug if isinstance(error, EtcdError) else self.log.warning
        log(event, error=str(error))

    def peer_failed(self, site: str, why: str) -> None:
        """Log it once for each reason: such a peer is asked again and again."""
        if self._peers.get(site) != why:
            self.log.warning("peer.failed", peer=site, reason=why)
        self._peers[site] = why

    def reconciled(self, report: Report) -> None:
        known, self._report = self._report, report
        self._trouble = ""
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
