"""Defers the files that show nothing about the destination until others have shown whether it works.

Two kinds of files wait: those that an earlier run could not ship, and, while it is unknown whose error it is, those
whose names a destination may refuse. They are considered again later in the same run.
"""

from __future__ import annotations

from s3_uploader.core.model import Candidate
from s3_uploader.core.text import is_plain

_MOST_DEFERRED = 1000


class Deferral:
    """The deferred files.

    :ivar failed: files that an earlier run could not ship: others go first, to show whose error it is.
    :ivar unplain: files whose names a destination may refuse: plain names go first while its errors are in doubt, and
        after such a file has failed.
    :ivar is_scanning: whether plain names may still come.
    """

    def __init__(self) -> None:
        self.failed: list[Candidate] = []
        self.unplain: list[Candidate] = []
        self.is_scanning = False
        self._has_seen_unplain_fail = False

    def has_room_for_failed(self) -> bool:
        """Whether one more file that failed before can be deferred."""
        return len(self.failed) < _MOST_DEFERRED

    def may_be_its_name(self, path: str) -> bool:
        """Whether a failure of this file proves nothing yet, because plain names may still come."""
        return self.is_scanning and len(self.unplain) < _MOST_DEFERRED and not is_plain(path)

    def saw_failure(self, key: str) -> None:
        """Note that a file failed. Each refusal of a name may take long, so others with plain names need not wait."""
        self._has_seen_unplain_fail = self._has_seen_unplain_fail or not is_plain(key)

    def waits(self, path: str, *, in_doubt: bool) -> bool:
        """Whether this file waits for those with plain names.

        :param in_doubt: it is to be found out whether an error is the destination's.
        """
        return (in_doubt or self._has_seen_unplain_fail) and self.may_be_its_name(path)
