"""One logged-in session with an FTP server: file properties and file operations."""

from __future__ import annotations

import contextlib
import re

from s3_uploader.stores.file_servers.base import Listed
from s3_uploader.stores.file_servers.learned import Names
from s3_uploader.stores.ftp.commands import Settings
from s3_uploader.stores.ftp.replies import UNKNOWN_COMMAND, Refused, fact, parse_digest, parse_time, wire
from s3_uploader.stores.ftp.transfers import ENDLESS, TransferConnection

__all__ = ["Session", "Settings"]

_ABSENT = (450, 550, 553)
_MOST_LISTED_BYTES = 16 << 20
_TOO_LONG = "451 the listing is too long to show whether a file exists"
_SIZE = re.compile(r"213[ -]\s*([0-9]{1,19})\s*", re.ASCII)


class Session(TransferConnection):
    """One session: file properties and file operations."""

    protocol = "FTP"

    def size(self, path: str, *, thoroughly: bool = False) -> int | None:
        """The size of the file at ``path``, ``None`` if it does not exist.

        It is asked for with ``SIZE``; if that is unknown or answered incorrectly, with ``MLST``, and finally with a
        listing of the directory.

        :param thoroughly: do not trust a single command that says it does not exist.
        """
        denied: list[str] = []
        for command in ("SIZE", "MLST"):
            if command in self.learned.lacks or (command == "MLST" and not self.features.mlst and denied):
                continue
            try:
                reply = self.command(f"{command} {wire(path)}")
            except Refused as refused:
                if refused.code in _ABSENT:
                    # 450 is a file that is busy, or none. One that this user may not look at is there.
                    is_unclear = refused.is_for_now or (refused.is_denial and self.learned.sees)
                    if not (thoroughly or is_unclear):
                        return None
                    denied.append(command)
                elif refused.code in UNKNOWN_COMMAND:
                    self.learned.lacks.add(command)
                elif refused.code != 501:
                    raise
                continue
            found = _size_in(reply, command)
            if fact(reply, "type").lower().endswith("dir"):
                return None  # some servers report a size of it, too
            if found is not None:
                # MLST sees a file that SIZE did not find.
                self.learned.lacks.update(denied)
                self.learned.sees = True
                return found
        found = self._size_by_listing(path, is_only_way=not denied)
        if found is not None:
            self.learned.lacks.update(denied)
            self.learned.sees = True
        return found

    def other_size(self, path: str) -> int | None:
        """The size by another command than :meth:`size` uses first, ``None`` if none reports it."""
        if "SIZE" not in self.learned.lacks and "MLST" not in self.learned.lacks:
            with contextlib.suppress(Refused):
                return _size_in(self.command(f"MLST {wire(path)}"), "MLST")
        return self._size_by_listing(path)

    def modified(self, path: str) -> float | None:
        """The time of the last change by the server's clock, in seconds since the epoch, if the server reports it."""
        with contextlib.suppress(Refused):
            return parse_time(self.command(f"MDTM {wire(path)}")[4:])
        if self.features.mlst:
            with contextlib.suppress(Refused):
                return parse_time(fact(self.command(f"MLST {wire(path)}"), "modify"))
        return None

    def digest(self, path: str, size: int) -> str:
        """The server's own digest of ``path`` by ``features.algorithm``; empty if it reports none."""
        command = self.features.hash_command
        if not command:
            return ""
        # The server reads the whole file before it answers; 10 MB/s is a slow disk.
        try:
            reply = self.command(f"{command.partition(' ')[0]} {wire(path)}", extra_seconds=size / 10e6)
        except Refused:
            return ""
        return parse_digest(reply, self.features.algorithm)

    def is_directory(self, path: str) -> bool:
        """Whether ``path`` is a directory that can be entered."""
        try:
            self.command(f"CWD {wire(path)}")
        except Refused:
            return False
        return True

    def make_directory(self, path: str) -> None:
        """Make one directory; its parent must exist."""
        self.command(f"MKD {wire(path)}")

    def remove_directory(self, path: str) -> None:
        """Remove one directory, which must be empty."""
        # It may be the current one, and Pure-FTPd lists nothing while that does not exist.
        with contextlib.suppress(Refused):
            self.command(f"CWD {wire(self.base)}")
        self.command(f"RMD {wire(path)}")

    def delete(self, path: str) -> bool:
        """Delete a file. Returns ``False`` if the server refuses, mostly because the file does not exist."""
        try:
            self.command(f"DELE {wire(path)}")
        except Refused:
            return False
        return True

    def remove(self, path: str) -> None:
        """Delete a file.

        :raises Refused: if the server refuses.
        """
        self.command(f"DELE {wire(path)}")

    def rename(self, old: str, new: str) -> None:
        """Rename a file. Most servers silently overwrite an existing file."""
        self.command(f"RNFR {wire(old)}")
        self.command(f"RNTO {wire(new)}")

    def _size_by_listing(self, path: str, *, is_only_way: bool = False) -> int | None:
        directory, _, name = path.rpartition("/")
        found: list[int | None] = []

        folds = self.learned.names is Names.FOLDED

        def compare(listed: Listed) -> None:
            is_it = listed.name == name or (folds and listed.name.casefold() == name.casefold())
            if is_it and listed.kind != "dir":
                found.append(listed.size)

        if "LIST" in self.learned.lacks:
            if is_only_way and ENDLESS in self.learned.lacks:
                raise Refused(_TOO_LONG, "LIST")
            return None
        try:
            whole = self.listing(directory or "/", compare, most=_MOST_LISTED_BYTES)
            if is_only_way and not (found or whole):
                raise Refused(_TOO_LONG, "LIST")
        except Refused as refused:
            if refused.is_for_now and not refused.is_absence:
                raise  # a listing that broke off does not show that a file is absent
            if refused.code in UNKNOWN_COMMAND:
                self.learned.lacks.add("LIST")
            return None
        return found[0] if found else None


def _size_in(reply: str, command: str) -> int | None:
    """The size in a reply to ``SIZE`` or ``MLST``, ``None`` without a valid number."""
    if command == "SIZE":
        found = _SIZE.fullmatch(reply)
        return int(found[1]) if found else None
    size = fact(reply, "size")
    return int(size) if size.isascii() and size.isdigit() and len(size) < 20 else None
