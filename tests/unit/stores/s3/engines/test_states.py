"""The table of a connection's states: what the code may do, and what the documentation draws."""

from __future__ import annotations

import pytest

from s3_uploader.stores.s3.engines.states import BUSY, CLOSED, CONNECTING, IDLE, SENDING, TRANSITIONS, UNREADY, State
from s3_uploader.stores.transitions import IllegalTransition, step


def test_every_state_can_be_reached_and_left() -> None:
    """There is no state that no connection comes to, and each of them ends with being closed."""
    reached = {CONNECTING}
    while more := {new for old in reached for new in TRANSITIONS[old]} - reached:
        reached |= more
    assert reached == set(State) == set(TRANSITIONS)
    assert all(CLOSED in after for after in TRANSITIONS.values())
    assert UNREADY | BUSY | {IDLE, CLOSED} == set(State)


def test_no_request_goes_out_before_the_last_is_answered() -> None:
    """What the table does not let follow is a bug that is named, not a second request on the same connection."""
    assert step(TRANSITIONS, IDLE, SENDING) is SENDING
    with pytest.raises(IllegalTransition, match="SENDING cannot follow SENDING"):
        step(TRANSITIONS, SENDING, SENDING)
