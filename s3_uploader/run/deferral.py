"""Files that are put off within a run, until others have told what the destination does."""

from __future__ import annotations

from s3_uploader.core.model import Candidate
from s3_uploader.core.text import is_plain

_MOST = 1000


class Deferral:
    """The files that are put off.

    :ivar failed: files that an earlier run could not ship: others go first, to tell whose error it is.
    :ivar unplain: files whose names a destination may dislike: while its errors are in doubt, plain names go first.
    :ivar is_scanning: whether plain names may still come.
    """

    def __init__(self) -> None:
        self.failed: list[Candidate] = []
        self.unplain: list[Candidate] = []
        self.is_scanning = False

    def has_room_for_failed(self) -> bool:
        """Whether one more file that failed before can be put off."""
        return len(self.failed) < _MOST

    def may_be_its_name(self, path: str) -> bool:
        """Whether a failure of this file tells nothing yet, because plain names may still come."""
        return self.is_scanning and len(self.unplain) < _MOST and not is_plain(path)
