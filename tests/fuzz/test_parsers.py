"""Whatever a server, a disk or a person writes is taken or refused: no exception, no endless loop, no quadratic time.

``UPLOADER_TEST_SEED`` repeats the inputs. A million for each parser: ``python -m tests.fuzz --inputs 1000000``.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest

from tests.fuzz.campaign import campaign, shown
from tests.fuzz.targets import TARGETS, Target

QUICK, LONG = 1_500, 60_000


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_input_is_taken_or_refused(
    target: Target, effort: Callable[[int, int], int], tally: Callable[[str, int], None]
) -> None:
    """A parser makes of any input a value or the error that it names, in time that grows no faster than the input."""
    seed = int(os.environ.get("UPLOADER_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"UPLOADER_TEST_SEED={seed}")
    inputs = effort(QUICK, LONG)
    faults, _ = campaign(target, inputs=inputs, seed=seed)
    tally(f"inputs, {target.name}", inputs)
    assert not faults, "\n\n".join(map(shown, faults))
