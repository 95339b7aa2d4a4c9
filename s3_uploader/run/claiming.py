"""The claims of a run: those of runs that were killed are given back before it, and its own after it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from s3_uploader.core.control import Clock
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.model import Untouchable
from s3_uploader.core.text import counted
from s3_uploader.ledger import Ledger
from s3_uploader.run.context import CLAIM_DIR
from s3_uploader.run.place import Place
from s3_uploader.run.scan import Leftovers
from s3_uploader.spool.claim_dir import claims_in, left_by_others, strangers, strangers_in_words
from s3_uploader.spool.claims import Claims, Stuck, recover

_STRANGERS = "entries of claim_dir that are not claims"
_TOLD_AGAIN_SECONDS = 86400.0
LEFT_BY_OTHERS = "a run of another user, which was killed, has left it there, perhaps with files"
HINT_OF_OTHERS = "Run s3-uploader-cli once as its owner, or as root: that puts them back into the spool."
_HINT_OF_STUCK = (
    "Its place in the spool must be a directory, not a link or a file, in which this user may create files. Then the "
    "next run puts it back and ships it."
)


@contextmanager
def claimed(
    place: Place, ledger: Ledger, former: str, leftovers: Leftovers, emit: Emit, clock: Clock
) -> Iterator[Claims | None]:
    """Open the claims, if the configuration has a directory for them; at the end they are given back.

    :param former: what the ledger remembers as :data:`~s3_uploader.run.context.CLAIM_DIR`.
    :param leftovers: handles what cannot be given back.
    """

    def stuck(path: str, error: OSError) -> None:
        why = f"a run that was killed had claimed it, and it cannot be put back: {error.strerror or error}"
        leftovers.cannot(Untouchable(path, "return", why, "" if error.errno == errno.ENOENT else _HINT_OF_STUCK))

    _recover_former(place, ledger, former, stuck, emit, clock)
    claims = open_claims(place)
    if claims is None:
        yield None
        return
    _tell_of_recovered(claims.recover(stuck), emit)
    for path in left_by_others(os.path.abspath(place.config.claim_dir or ""), place.root):
        leftovers.cannot(Untouchable(path, "return", LEFT_BY_OTHERS, HINT_OF_OTHERS))
    _tell_of_strangers(place, ledger, emit, clock)
    try:
        yield claims
    finally:
        claims.close()


def open_claims(place: Place) -> Claims | None:
    """Open the claims of a configuration; ``None`` if it has no ``claim_dir``.

    :raises SpoolError: if it cannot be used.
    """
    claim_dir = place.config.claim_dir
    return None if claim_dir is None else Claims(place.root, os.path.abspath(claim_dir))


def _recover_former(place: Place, ledger: Ledger, former: str, stuck: Stuck, emit: Emit, clock: Clock) -> None:
    """Put back what a killed run had claimed, if ``claim_dir`` was changed or removed after that."""
    claim_dir = place.config.claim_dir
    # Escaped, because a path need not be valid text.
    present = "" if claim_dir is None else os.path.abspath(claim_dir).encode("unicode_escape").decode()
    if former == present:
        return
    if former:
        directory = former.encode().decode("unicode_escape")
        _tell_of_recovered(recover(directory, place.root, stuck), emit)
        if claims_in(directory, place.root):
            return  # those of uploaders that are still at work: a later run looks again
    ledger.remember(CLAIM_DIR, present, now=clock.now())


def _tell_of_recovered(files: int, emit: Emit) -> None:
    if files:
        emit(Notice("warning", f"{counted(files, 'file')} of an abandoned claim returned to the spool."))


def _tell_of_strangers(place: Place, ledger: Ledger, emit: Emit, clock: Clock) -> None:
    """Report once a day files in claim_dir that nobody ships."""
    claim_dir = os.path.abspath(place.config.claim_dir or "")
    found = strangers(claim_dir, place.root)
    if found and ledger.recall(_STRANGERS, now=clock.now(), max_age=_TOLD_AGAIN_SECONDS) is None:
        ledger.remember(_STRANGERS, "said", now=clock.now())
        emit(Notice("warning", "claim_dir " + " ".join(strangers_in_words(claim_dir, found))))
