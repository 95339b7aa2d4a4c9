"""The stages of an upload in parts, and the allowed transitions."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """The state of an upload at the server, and the current step."""

    NOTHING = "nothing is created at the server"
    CREATING = "the creation was requested, and the answer with the upload ID is expected"
    SENDING = "parts are in flight"
    COMPLETING = "all parts are stored; they are joined, after a lookup of the key if needed"
    WAITING = "it will be aborted when no part is in flight, because a later part would be left"
    ABORTING = "the abort was requested"


NOTHING, CREATING, SENDING, COMPLETING, WAITING, ABORTING = Stage

TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    NOTHING: frozenset((CREATING,)),
    CREATING: frozenset((NOTHING, SENDING, ABORTING)),
    SENDING: frozenset((NOTHING, COMPLETING, WAITING, ABORTING)),
    COMPLETING: frozenset((NOTHING, ABORTING)),
    WAITING: frozenset((ABORTING,)),
    ABORTING: frozenset((NOTHING,)),
}
