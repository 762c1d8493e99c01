"""Every step, every kind of fault: the one story, and nothing that is promised is broken.

``pytest -m faults tests/fault/sweep`` tells what has not passed yet for these very sources (``.cache/faults/``), and all of it again where
``PIEHOLE_TEST_AFRESH`` is set; ``-k`` chooses a part. What bears no mark is the part that every run of the tests has.
"""

from __future__ import annotations

import os

import pytest

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed
from tests.fault.sweep.checks import violations
from tests.fault.sweep.ledger import Ledger
from tests.fault.sweep.story import Fault, Story, faults

QUICK = (
    Fault(Step.PREPARED_BEGUN, "killpush"),
    Fault(Step.SWAPPED, "kill"),
    Fault(Step.SWAPPED, "error", direct=True),
    Fault(Step.ANSWERED, "killpush", direct=True),
    Fault(Step.PACK_MOVED, "kill"),
    Fault(Step.PROGRESS_ANNOUNCED, "kill"),
)
# A story takes four seconds on an idle machine, twelve without a controller; a busy one may need many times that.
pytestmark = pytest.mark.timeout(400)
_LEDGER = Ledger()
_DONE = set() if os.environ.get("PIEHOLE_TEST_AFRESH") else _LEDGER.passed()
_TO_DO = [fault for fault in faults() if fault.name not in _DONE]


def run(bed: Bed, fault: Fault | None, *, direct: bool = False) -> None:
    bed.spoilt = True  # until this has come to a good end
    told = Story(bed, fault, direct=direct).tell()
    found = violations(bed, told)
    assert not found, "\n".join([*found, told.log.told()])
    bed.spoilt = False


@pytest.mark.parametrize("fault", QUICK, ids=lambda fault: fault.name)
def test_the_quick_part_of_the_sweep(bed: Bed, fault: Fault) -> None:
    run(bed, fault)


@pytest.mark.faults
@pytest.mark.parametrize("fault", _TO_DO, ids=lambda fault: fault.name)
def test_sweep(bed: Bed, fault: Fault) -> None:
    run(bed, fault)
    _LEDGER.note(fault.name)
