"""The table of the stages of an upload in parts."""

from __future__ import annotations

from s3_uploader.stores.s3.multipart_states import ABORTING, NOTHING, SENDING, TRANSITIONS, WAITING, Stage


def test_nothing_is_left_behind_from_any_stage() -> None:
    """From each stage the upload can come to its end, and where parts may be stored only by way of an abort."""
    assert set(TRANSITIONS) == set(Stage)
    for stage in Stage:
        reached = {stage}
        while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
            reached |= more
        assert NOTHING in reached
    assert TRANSITIONS[WAITING] == {ABORTING}
    assert WAITING in TRANSITIONS[SENDING]
