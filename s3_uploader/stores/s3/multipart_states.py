"""The stages of an upload in parts, and which may follow which."""

from __future__ import annotations

import enum


class Stage(enum.Enum):
    """What the server has of an upload, and what is done about it."""

    NOTHING = "nothing is begun at the server"
    CREATING = "it was asked to begin, and has not said yet under which name"
    SENDING = "parts are on their way"
    COMPLETING = "all parts are there; they are joined, after a look at the key where that is needed"
    WAITING = "it is to be aborted as soon as no part is on its way, since one that came later would stay"
    ABORTING = "the server was asked to abort it"


NOTHING, CREATING, SENDING, COMPLETING, WAITING, ABORTING = Stage

TRANSITIONS: dict[Stage, frozenset[Stage]] = {
    NOTHING: frozenset((CREATING,)),
    CREATING: frozenset((NOTHING, SENDING, ABORTING)),
    SENDING: frozenset((NOTHING, COMPLETING, WAITING, ABORTING)),
    COMPLETING: frozenset((NOTHING, ABORTING)),
    WAITING: frozenset((ABORTING,)),
    ABORTING: frozenset((NOTHING,)),
}
