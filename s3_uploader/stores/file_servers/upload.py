"""One upload to a file server: look, send under a temporary name, prove, try the name, rename, look again.

The protocol decides how a file gets its name (:meth:`FileUpload._give_name`).
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Generic, TypeVar

import msgspec

from s3_uploader.core.errors import ProofError, Scope, StoreError
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import PutOptions, Source
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.conflict import KeyDecision, Site, Target
from s3_uploader.stores.file_servers.content import Content
from s3_uploader.stores.file_servers.learned import Names
from s3_uploader.stores.file_servers.names import is_plain, is_stored_as, name_changed
from s3_uploader.stores.file_servers.parts import NAMES
from s3_uploader.stores.file_servers.proving import Prover
from s3_uploader.stores.keys import is_directory
from s3_uploader.stores.workers import UploadTask

_Session = TypeVar("_Session", bound=FileSession)


class Renaming(msgspec.Struct, frozen=True):
    """A rename whose answer was lost with the connection. A retry may find it done."""

    origin: str
    target: Target


class FileUpload(ABC, Generic[_Session]):
    """The upload of one file. :meth:`run` is called again for every retry, each time with a working session."""

    def __init__(
        self, task: UploadTask, key: str, source: Source, options: PutOptions, replaces: str, *, site: Site
    ) -> None:
        self.temporary_path = ""
        """Where unfinished bytes of ours may be; empty if there are none."""
        self.moved_from = ""
        """Where they may be instead, because the connection was lost during a rename; empty if that is known."""
        self.scratch = ""
        """The directory in which the name is tried; empty if there is none."""
        self.probe_path = ""
        """The path for a test whether a byte can be written; empty while the directory is unknown."""
        self._task = task
        self._key = key
        self._source = source
        self._options = options
        self._site = site
        self._content = Content(task, source)
        self._decision = KeyDecision(task, key, source, options, replaces, content=self._content, site=site)
        self._prover = Prover(task, self._content, minimum=options.minimum_proof, address=site.address(key))
        self._has_sent = False
        self._renaming: Renaming | None = None

    def run(self, session: _Session) -> Receipt:
        """Upload the file, or find that it is there already.

        :raises Refused: if the server refuses.
        :raises Lost: if the connection is lost.
        :raises StoreError: if the content, a conflict or a missing proof prevents it.
        """
        found = self._after_lost_rename(session)
        if found is not None:
            return found
        is_sure = self._site.learned.sees
        decision = self._decision.decide(session)
        if isinstance(decision, Receipt):
            return decision
        directory = self._decision.path(session, self._key).rpartition("/")[0] or "/"
        if self._site.temporary_names == "none":
            return self._send_directly(session, directory, decision, is_sure=is_sure)
        proof = self._sent_before(session)
        if proof is None:
            self._send(session, directory)
            proof = self._prover.prove(session, self.temporary_path)
        self._has_sent = True
        self._task.check()
        if self._needs_trial(self._key):
            self._try_name(session, directory)
        with self._site.naming(self._task, self._key):
            # Look again, so that the moment in which another writer can interfere is short.
            decision = self._decision.decide(session)
            if isinstance(decision, Receipt):
                return decision
            return self._name_it(session, decision, proof)

    # ------------------------------------------------------------------------------------------ sending

    def _is_hidden(self) -> bool:
        if self._site.temporary_names == "auto":
            return not self._site.learned.takes_no_hidden_names
        return self._site.temporary_names == "hidden"

    def _send(self, session: _Session, directory: str) -> None:
        """Send the file under a new name."""
        if self.temporary_path:
            # Remove the partial file of the previous attempt. It is not overwritten, because its server process may
            # still be writing the old connection's buffers to it.
            session.delete(self.temporary_path)
            self.temporary_path = ""
        made = self._site.directories.ensure(session, directory, hidden=self._is_hidden())
        try:
            self._send_as(session, directory, hidden=self._is_hidden())
        except Refused as refused:
            if not refused.may_be_the_name:
                raise
            may_be_the_dot = self._site.temporary_names == "auto" and self._is_hidden() and not refused.is_for_now
            if may_be_the_dot and not self._site.directories.took_a_file:
                # Many servers forbid names with a leading dot.
                self._send_as(session, directory, hidden=False)
                self._site.learned.takes_no_hidden_names = True
            elif not made:
                # Another program may have removed the directory of an earlier upload.
                self._site.directories.forget(directory)
                self._site.directories.ensure(session, directory, hidden=self._is_hidden())
                self._send_as(session, directory, hidden=self._is_hidden())
            else:
                raise
        self._site.directories.took_a_file = True
        if self._options.minimum_proof is not Proof.NONE:
            self._site.directories.learn_names(session, directory, hidden=self._is_hidden(), renames=True)

    def _send_as(self, session: _Session, directory: str, *, hidden: bool) -> None:
        self.temporary_path = self.probe_path = f"{directory.rstrip('/')}/{self._site.parts.new(hidden=hidden)}"
        self._has_sent = False
        session.store(self.temporary_path, self._all_chunks(session))

    def _all_chunks(self, session: _Session) -> Iterator[bytes]:
        yield from self._content.chunks(session.algorithm)
        # From here on the server may have everything, even if its answer never arrives.
        self._has_sent = True

    def _sent_before(self, session: _Session) -> tuple[Proof, str] | None:
        """The proof that an attempt succeeded although its answer was lost with the connection."""
        if not self._has_sent or not self.temporary_path:
            return None
        self._has_sent = False
        origin, self.moved_from = self.moved_from, ""
        if origin and session.size(origin, thoroughly=True) is not None:
            self.temporary_path = origin
        try:
            return self._prover.prove(session, self.temporary_path)
        except StoreError as error:
            if not error.retryable:
                raise
            return None

    def _send_directly(self, session: _Session, directory: str, target: Target, *, is_sure: bool) -> Receipt:
        """Send the file directly to its final name, as configured.

        :param is_sure: whether it was known, when the target was decided, that the server reports existing files.
        """
        made = self._site.directories.ensure(session, directory, hidden=False)
        try:
            return self._send_to(session, directory, target, is_sure=is_sure)
        except Refused as refused:
            if made or self.temporary_path or not refused.may_be_the_name:
                raise
        # Another program may have removed the directory of an earlier upload.
        self._site.directories.forget(directory)
        self._site.directories.ensure(session, directory, hidden=False)
        return self._send_to(session, directory, target, is_sure=is_sure)

    def _send_to(self, session: _Session, directory: str, target: Target, *, is_sure: bool) -> Receipt:
        """Send the file to the final name.

        An existing file is removed first, so that its length is not taken for ours, and because a server that does not
        overwrite would store the file beside it.
        """
        if self._options.minimum_proof is not Proof.NONE:
            self._look_before(session, directory, target.key)
            if not is_sure:
                # Some servers answer 550 to every SIZE, which was taken for a free name.
                decision = self._decision.decide(session)
                if isinstance(decision, Receipt):
                    return decision
                target = decision
        path = self._decision.path(session, target.key)
        was = target.was
        if was is not None and session.delete(path):
            was = None
        self._store_directly(session, path)
        self._site.directories.took_a_file = True
        proof = self._prover.prove(session, path, was=was)
        self.temporary_path = ""
        return self._decision.receipt(target.key, proof)

    def _store_directly(self, session: _Session, path: str) -> None:
        # Only when the server takes the file: what it refuses to replace is another writer's, and must not be removed.
        def chunks() -> Iterator[bytes]:
            self.temporary_path = self._decision.sent_to = path
            yield from self._content.chunks(session.algorithm)

        session.store(path, chunks())

    def _look_before(self, session: _Session, directory: str, key: str) -> None:
        """Check that the server reports existing files, and keeps the name."""
        directories = self._site.directories
        directories.make_sure_of_looks(session, directory)
        directories.learn_names(session, directory, hidden=False, renames=False)
        if self._needs_trial(key):
            directories.try_name(session, directory, key.rpartition("/")[2], hidden=False)

    # ------------------------------------------------------------------------------------------ naming

    def _needs_trial(self, key: str) -> bool:
        name = key.rpartition("/")[2]
        return not is_plain(name) or self._site.learned.names is Names.CHANGED

    def _try_name(self, session: _Session, directory: str) -> None:
        """Rename the file in a directory of its own, and check its name there.

        :raises KeyRefused: if it has another name.
        """
        name = self._key.rpartition("/")[2]
        scratch = f"{directory.rstrip('/')}/{self._site.parts.new(hidden=self._is_hidden(), kind=NAMES)}"
        # If the connection is lost, it may have been made.
        former, self.scratch = self.scratch, scratch
        try:
            if not self._make_scratch(session, scratch):
                self._try_name_beside(session, directory, name)
                return
            self._move(session, f"{scratch}/{name}")
        finally:
            if former:
                self._site.parts.leave_behind(former)  # only now, because the file may have been in it
        if not is_stored_as(session, scratch, name):
            self.temporary_path = ""  # removed together with the directory
            raise name_changed(self._site.address(self._key))

    def _make_scratch(self, session: _Session, scratch: str) -> bool:
        """Make the directory in which the name is tried. Returns ``False`` if that is not permitted."""
        try:
            session.make_directory(scratch)
        except Refused:
            self.scratch = ""
            return False
        return session.is_directory(scratch)

    def _try_name_beside(self, session: _Session, directory: str, name: str) -> None:
        """The same if no directory can be made: the name with a prefix, and with a suffix."""
        word = self._site.parts.new(hidden=False)[:8]
        for tried in (f"{word}-{name}", f"{name}-{word}"):
            self._move(session, f"{directory.rstrip('/')}/{tried}")
            if session.size(self.temporary_path, thoroughly=True) is None:
                raise name_changed(self._site.address(self._key))

    def _move(self, session: _Session, path: str) -> None:
        origin, self.temporary_path = self.temporary_path, path
        try:
            session.rename(origin, path)
        except Refused as refused:
            self.temporary_path = origin
            raise self._refused_rename(session, refused) from None
        except Lost:
            self.moved_from = origin
            raise

    def _name_it(self, session: _Session, target: Target, proof: tuple[Proof, str]) -> Receipt:
        """Rename the finished file, and check that it has its name."""
        path = self._decision.path(session, target.key)
        was = target.was
        if was == self._source.size and not target.is_readable and session.delete(path):
            # Afterwards the new file could not be told from the old one.
            was = None
        self._renaming = Renaming(self.temporary_path, target)
        try:
            self._give_name(session, path, replaces=was is not None)
        except Refused as refused:
            self._renaming = None
            if session.size(path) is None and not (
                session.is_directory(path) and self._decision.step_aside(target.key)
            ):
                raise self._refused_rename(session, refused) from None
            # IIS and FileZilla Server do not overwrite. If we must not either, another writer was first.
            decision = self._decision.decide(session)
            if isinstance(decision, Receipt):
                return decision
            target, was = decision, decision.was
            path = self._decision.path(session, target.key)
            if was is not None and session.delete(path):
                was = None
            self._give_name(session, path, replaces=was is not None)
        self._site.learned.refused("rename", "")
        proof = self._prover.confirm(session, path, proof, was=was)
        self._renaming = None
        self.temporary_path = ""
        self._leave_scratch(session)
        return self._decision.receipt(target.key, proof)

    def _leave_scratch(self, session: _Session) -> None:
        if self.scratch:
            with contextlib.suppress(Refused):
                session.remove_directory(self.scratch)
            self.scratch = ""

    @abstractmethod
    def _give_name(self, session: _Session, path: str, *, replaces: bool) -> None:
        """Rename the file at :attr:`temporary_path` to its name.

        :param replaces: a file of that name exists, and may be overwritten.
        :raises Refused: if the server refuses, for example because a file exists.
        """

    def _refused_rename(self, session: _Session, refused: Refused) -> Refused | StoreError:
        """The meaning of a refused rename when no file has that name."""
        if not session.learned.sees or session.size(self.temporary_path, thoroughly=True) is not None:
            if session.is_directory(self._decision.path(session, self._key)):
                return is_directory(self._site.address(self._key))
            return self._without_rename(session, refused)
        self.temporary_path = ""
        return StoreError(
            f"The unfinished file of the upload to {self._site.address(self._key)} was removed by another program.",
            code="TemporaryFileGone",
            retryable=True,
            origin=Origin.OURS,
            hint="Let the consumer of the files leave alone those whose names contain .s3-uploader.",
        )

    @abstractmethod
    def _without_rename(self, session: _Session, refused: Refused) -> Refused | StoreError:
        """The same if the unfinished file still exists."""

    def _after_lost_rename(self, session: _Session) -> Receipt | None:
        """The receipt if a rename was done although its answer was lost with the connection.

        If the name was taken before, an equal length does not prove that.
        """
        renaming, self._renaming = self._renaming, None
        if renaming is None or session.size(renaming.origin, thoroughly=True) is not None:
            return None
        path = self._decision.path(session, renaming.target.key)
        size = session.size(path)
        if size is None:
            self.temporary_path = ""
            return None
        existing = self._decision.examine(session, path, size)
        if existing.same is False:
            return None
        self.temporary_path = ""
        if existing.same:
            proof = (existing.proof, existing.checksum)
        elif renaming.target.was is None and self._options.minimum_proof <= Proof.SIZE:
            proof = (Proof.SIZE, "")
        else:
            raise ProofError(
                f"It is unknown whether {self._site.address(self._key)} is the new file, because it cannot be read.",
                hint="Give the user permission to read.",
            )
        self._leave_scratch(session)
        return self._decision.receipt(renaming.target.key, proof)


def no_right_to_rename(session: FileSession, refused: Refused, address: str) -> StoreError:
    """The error for a server that refuses every rename."""
    return StoreError(
        f"The {session.protocol} server does not permit the rename to {address}: {refused.text}.",
        code=refused.error_code,
        origin=refused.origin,
        scope=Scope.DESTINATION,
        hint=f"Give the {session.protocol} user permission to rename, or set temporary_names to none.",
    )
