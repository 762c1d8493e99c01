"""With two copies promised, the loss of the receiving server and the laptop at any step loses nothing that was acknowledged or named."""

from __future__ import annotations

import pytest

from piehole.fastpath.failpoints import Step
from tests.fault.sweep.bed import Bed
from tests.fault.sweep.disaster import ANSWER, Disaster, DisasterStory, disasters

QUICK = (Disaster(Step.COPIES_HELD), Disaster(Step.SWAPPED), Disaster(ANSWER, direct=True))
# A story takes six seconds on an idle machine; a busy one may need many times that.
pytestmark = pytest.mark.timeout(400)


def run(bed: Bed, disaster: Disaster) -> None:
    bed.spoilt = True  # until this has come to a good end
    found = DisasterStory(bed, disaster).tell()
    assert not found, "\n".join(found)
    bed.spoilt = False


@pytest.mark.slow
@pytest.mark.parametrize("disaster", QUICK, ids=lambda disaster: disaster.name)
def test_the_quick_part_of_the_disasters(bed: Bed, disaster: Disaster) -> None:
    run(bed, disaster)


@pytest.mark.faults
@pytest.mark.parametrize("disaster", disasters(), ids=lambda disaster: disaster.name)
def test_disaster(bed: Bed, disaster: Disaster) -> None:
    run(bed, disaster)
