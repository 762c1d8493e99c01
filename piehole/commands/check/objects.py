"""Whether the objects that this site claims to have are there and whole, as far as the time allows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from piehole.deadline import Deadline
from piehole.errors import EtcdError
from piehole.group.replica import Replica
from piehole.group.sites import list_sites
from piehole.replicate import examination
from piehole.repository import verification
from piehole.repository.fitness import Fault, unproven

_PATIENCE: Final = 8.0  # seconds for etcd


def faults(replica: Replica) -> Iterator[Fault]:
    """Examine the history of every managed ref, and the files that hold objects."""
    found = examination.corrupt(replica, examination.THOROUGH)
    if found:
        yield Fault(
            f"corrupt: objects that this site claims to have are missing or damaged ({found}); until it is repaired it "
            "counts as no copy, and it fills no new site while there is another",
            f"`piehole reconcile --once {replica.git_dir}` fetches them anew from another site, as a running controller does",
            word="corrupt",
        )

    yield from unproven(replica.git_dir, replica.config.verify_every)


def of_other_sites(replica: Replica) -> Iterator[Fault]:
    """The other sites that have published that they are corrupt."""
    try:
        everybody = list_sites(replica, Deadline(_PATIENCE))
    except EtcdError:
        return  # the check of the peers says so
    for one in everybody:
        proven = one.progress.verified.get("proven") if one.progress else None
        if isinstance(proven, str) and not one.left and verification.overdue(proven, replica.config.verify_every):
            yield Fault(
                f"the objects of the site {one.site!r} were last proven {proven}",
                "see `piehole check` there: its controller proves them every piehole.verifyEvery",
                warning=True,
                word="overdue",
            )
        if one.corrupt and one.site != replica.config.site and not one.left:
            yield Fault(
                f"corrupt: the site {one.site!r} has lost or damaged objects, so it counts as no copy ({one.corrupt})",
                "see `piehole check` there; its controller repairs it from a site that is whole",
                warning=True,
                word="corrupt",
            )
