"""Which files wait until others have shown whether the destination works."""

from __future__ import annotations

import pytest

from s3_uploader.run import deferral as module
from s3_uploader.run.deferral import Deferral
from tests.fakes import candidate


def scanning() -> Deferral:
    """A deferral in the middle of a scan."""
    deferral = Deferral()
    deferral.is_scanning = True
    return deferral


def test_unusual_names_wait_only_where_plain_ones_may_follow() -> None:
    """A name that a destination may refuse waits while errors are in doubt, as long as plain names may still come."""
    deferral = scanning()
    assert not deferral.waits("café", in_doubt=False)
    assert deferral.waits("café", in_doubt=True)
    assert not deferral.waits("plain", in_doubt=True)
    deferral.is_scanning = False
    assert not deferral.waits("café", in_doubt=True)


def test_after_an_unusual_name_has_failed_the_others_wait() -> None:
    """A refused name lets plain names go first; the failure of a plain one changes no order."""
    deferral = scanning()
    deferral.saw_failure("plain")
    assert not deferral.waits("café", in_doubt=False)
    deferral.saw_failure("naïve")
    assert deferral.waits("café", in_doubt=False)


def test_a_bounded_number_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files could wait, memory holds a limited number of each kind."""
    monkeypatch.setattr(module, "_MOST_DEFERRED", 2)
    deferral = scanning()
    for name in ("ä", "ö"):
        assert deferral.has_room_for_failed()
        assert deferral.waits(name, in_doubt=True)
        deferral.failed.append(candidate(name))
        deferral.unplain.append(candidate(name))
    assert not deferral.has_room_for_failed()
    assert not deferral.waits("ü", in_doubt=True)
