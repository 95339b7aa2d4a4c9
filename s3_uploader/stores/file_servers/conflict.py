"""The key that a file is stored under: whether it exists already, with which content, and what follows from that."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import msgspec

from s3_uploader.core.errors import ConflictError, NameTaken
from s3_uploader.core.model import OnConflict, Proof, Receipt
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.file_servers.base import FileSession, Refused
from s3_uploader.stores.file_servers.content import Content, proof_of
from s3_uploader.stores.file_servers.directories import KnownDirectories
from s3_uploader.stores.file_servers.learned import Learned, Names
from s3_uploader.stores.file_servers.names import is_plain, stands_exactly
from s3_uploader.stores.file_servers.parts import PartNames
from s3_uploader.stores.keys import derived_key
from s3_uploader.stores.workers import UploadTask

_UNCHANGED_SECONDS = 10.0
"""How long the beginning of a file must keep its length before it counts as left by a killed run."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What all uploads of a store share.

    :param temporary_names: ``auto``, ``hidden``, ``visible`` or ``none``; see the configuration.
    :param address: formats a key for messages.
    :param naming: holds off other uploads to names that the server may treat as the same.
    """

    parts: PartNames
    learned: Learned
    directories: KnownDirectories
    temporary_names: str
    address: Callable[[str], str]
    naming: Callable[[UploadTask, str], contextlib.AbstractContextManager[None]]


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """The key to store the file under.

    :param was: the length of an existing file that may be replaced, ``None`` if the name is free.
    :param is_readable: whether that file could be read.
    """

    key: str
    was: int | None = None
    is_readable: bool = True


class Existing(msgspec.Struct, frozen=True):
    """A file that exists at a path, compared with the source.

    :param same: whether the content is the source's; ``None`` if it could not be read.
    :param proof: how we know, if it is the same.
    :param checksum: as a receipt spells it.
    :param etag: ``sha256:…`` of the existing file, empty if unknown.
    """

    same: bool | None
    proof: Proof = Proof.NONE
    checksum: str = ""
    etag: str = ""


class KeyDecision:
    """Decides about one file. Asks the server each time."""

    def __init__(
        self,
        task: UploadTask,
        key: str,
        source: Source,
        options: PutOptions,
        replaces: str,
        *,
        content: Content,
        site: Site,
    ) -> None:
        self.sent_to = ""
        """The final name to which this upload has sent bytes."""
        self._task = task
        self._key = key
        self._source = source
        self._options = options
        self._replaces = replaces
        self._content = content
        self._site = site
        self._steps_aside = False

    def decide(self, session: FileSession) -> Receipt | Target:
        """The key to store under, or the receipt of the existing file.

        :raises ConflictError: if the key is taken by other content.
        """
        on_conflict = self._options.on_conflict
        for key in self._keys():
            path = self.path(session, key)
            size = session.size(path)
            if size is None:
                return Target(key=key)
            self._make_sure_of_name(session, key)
            existing = self.examine(session, path, size)
            if existing.same:
                return self.receipt(key, (existing.proof, existing.checksum), already_there=True)
            if on_conflict is OnConflict.OVERWRITE or (self._replaces and existing.etag == self._replaces):
                return Target(key=key, was=size, is_readable=existing.same is not None)
            if self._site.temporary_names == "none" and self._is_broken_off(session, path, size):
                return Target(key=key, was=size)
        fact = "exists already with other content" if existing.same is False else "exists already and cannot be read"
        raise ConflictError(
            f"{self._site.address(self._key)} {fact}.",
            hint="Remove or rename one of the two, or set on_conflict to keep-both or overwrite.",
            existing=existing.etag,
        )

    def _is_broken_off(self, session: FileSession, path: str, size: int) -> bool:
        """Whether an existing file is the beginning of ours: a killed run left it, and overwriting it loses nothing."""
        if size >= self._source.size:
            return False
        try:
            # An empty one, too: some servers report 0 for files that have bytes.
            if self._content.read_back(session, path, most=size) != self._content.beginning(size):
                return False
        except Refused:
            if size:
                return False
        if path == self.sent_to:
            return True
        # Another client may be sending it at this moment.
        self._task.pause(_UNCHANGED_SECONDS)
        return session.size(path) == size

    def _make_sure_of_name(self, session: FileSession, key: str) -> None:
        """Check that a file found under a name has exactly this name, because some servers treat two names as one."""
        if self._site.learned.names is Names.KEPT and all(map(is_plain, key.split("/"))):
            return
        exactly = stands_exactly(session, key)
        if exactly is None and self._options.on_conflict is OnConflict.OVERWRITE:
            raise NameTaken(
                f"The file at {self._site.address(key)} may have another name that the {session.protocol} server takes "
                "for this one: its directory cannot be listed to the end. So it is not replaced.",
                hint="Remove that file, use names of plain letters and digits, or let the server list everything.",
            )
        if exactly is False:
            raise NameTaken(
                f"The {session.protocol} server treats {self._site.address(key)} as the name of another file "
                "that exists already.",
                hint="Rename one of the two files.",
            )

    def step_aside(self, key: str) -> bool:
        """Take the derived key from now on, because a directory has this one, if ``on_conflict`` permits that."""
        if key == self._key and self._options.on_conflict is OnConflict.KEEP_BOTH:
            self._steps_aside = True
            return True
        return False

    def _keys(self) -> Iterator[str]:
        if not self._steps_aside:
            yield self._key
        if self._options.on_conflict is OnConflict.KEEP_BOTH:
            yield derived_key(self._key, self._content.digest("sha256"))

    def examine(self, session: FileSession, path: str, size: int) -> Existing:
        """Compare the file at ``path`` with the source, by the server's hash or by reading the file."""
        algorithm = session.algorithm
        strong_enough = proof_of(algorithm) >= max(self._options.minimum_proof, Proof.MD5)
        if size == self._source.size and algorithm not in ("", "crc32") and strong_enough:
            theirs = session.digest(path, size)
            if theirs:
                etag = f"sha256:{theirs}" if algorithm == "sha256" else ""
                if theirs == self._content.digest(algorithm):
                    return Existing(True, proof_of(algorithm), f"{algorithm}:{theirs}", etag)
                if etag or not self._replaces:
                    return Existing(False, etag=etag)
        # A wrong length from the server must not make one content look like two.
        if size != self._source.size and not self._replaces and session.other_size(path) != self._source.size:
            return Existing(False)
        try:
            theirs = self._content.read_back(session, path, most=max(size, self._source.size))
        except Refused:
            # A server that allows writing but not reading: the content is unknown.
            return Existing(False if size != self._source.size else None)
        etag = f"sha256:{theirs}"
        if theirs == self._content.digest("sha256"):
            return Existing(True, Proof.CHECKSUM, etag, etag)
        return Existing(False, etag=etag)

    def receipt(self, key: str, proof: tuple[Proof, str], *, already_there: bool = False) -> Receipt:
        """The receipt of the file under that key."""
        return Receipt(
            key=key,
            size=self._source.size,
            proof=proof[0],
            checksum=proof[1],
            etag=f"sha256:{self._content.digest('sha256')}",
            already_there=already_there,
        )

    def path(self, session: FileSession, key: str) -> str:
        """The absolute path of a key on the server."""
        return f"{session.base.rstrip('/')}/{key}"
