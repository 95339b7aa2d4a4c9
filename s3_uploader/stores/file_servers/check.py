"""``check`` for a file server: it performs each step of an upload with small test files."""

from __future__ import annotations

import contextlib
import functools
import secrets
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TypeVar

from s3_uploader.core.errors import StoreError
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import Proof
from s3_uploader.core.origins import Origin
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, ignore
from s3_uploader.stores.file_servers.base import FileSession, Lost, Refused
from s3_uploader.stores.file_servers.check_content import (
    COMPUTES,
    check_clock,
    check_prefixes,
    check_proof,
    check_reading,
)
from s3_uploader.stores.file_servers.check_limits import Steps, hurried
from s3_uploader.stores.file_servers.check_lock import check_lock
from s3_uploader.stores.file_servers.learned import Learned, Names
from s3_uploader.stores.file_servers.lock import Create
from s3_uploader.stores.file_servers.names import learn_names
from s3_uploader.stores.file_servers.parts import PartNames
from s3_uploader.stores.file_servers.pool import SessionPool
from s3_uploader.stores.file_servers.server import FileServer

_Session = TypeVar("_Session", bound=FileSession)

_LISTED_BYTES = 64 * 1024


def borrowing(
    pool: SessionPool[_Session] | None, server: FileServer[_Session]
) -> tuple[Callable[[Callable[[], float]], _Session], Callable[[_Session], None]]:
    """What makes a session, of an open store if there is one, because some servers accept one connection only.

    :returns: a function that makes it, and one that takes it back.
    """
    borrowed: list[_Session] = []

    def connect(remaining: Callable[[], float]) -> _Session:
        idle = None if pool is None else pool.borrow(remaining)
        if idle is None:
            return server.connect(remaining)
        borrowed.append(idle)
        return idle

    def release(session: _Session) -> None:
        if pool is not None and borrowed:
            pool.give_back(session)
        else:
            session.quit()

    return connect, release


def check_file_server(
    connect: Callable[[Callable[[], float]], _Session],
    login_error: Callable[[Refused | Lost], StoreError],
    login: Callable[[_Session], Iterator[Finding]],
    *,
    server: str,
    lock_file: str | None,
    create_lock: Create,
    temporary_names: str,
    learned: Learned,
    minimum_proof: Proof,
    makes_directories: bool,
    key_prefixes: Sequence[str] = (),
    now: float,
    stored: Callable[[str], None] = ignore,
    limits: CheckLimits = USUAL_LIMITS,
    release: Callable[[_Session], None],
    link: Callable[[_Session, str, str], None] | None = None,
) -> list[Finding]:
    """Findings about a file server.

    :param connect: makes a logged-in session, given a function that returns the seconds left.
    :param login_error: describes a failure to connect.
    :param login: findings about a logged-in session.
    :param makes_directories: whether uploads need new directories again and again.
    :param key_prefixes: what keys begin with.
    :param now: wall-clock time in seconds since the epoch.
    :param stored: called with the name of the test file while it exists.
    :param limits: longest time until a connection or a further finding, and for all.
    :param release: takes the session back.
    :param link: makes a hard link of a file under a free name, if the protocol supports that.
    """
    begun = time.monotonic()
    steps = Steps(limits)
    try:
        session = steps.session = connect(steps.remaining)
    except (Refused, Lost) as error:
        problem = login_error(error)
        return [Finding(Severity.ERROR, server, problem.message, problem.hint or "Nothing can be shipped there.")]
    findings: list[Finding] = []
    try:
        findings += login(session)
        safely = None if link is None else functools.partial(link, session)
        for finding in _round_trip(server, session, temporary_names, learned, now - begun, stored, safely):
            findings.append(_judged(finding, minimum_proof, makes_directories=makes_directories))
            steps.begin()
        steps.begin()
        findings += _directories_and_reading(server, session, key_prefixes, minimum_proof, [*findings], steps)
        steps.begin()
        findings += _listing(server, session)
        steps.begin()
        findings += check_lock(server, session, lock_file, create_lock)
    except Refused as refused:
        findings.append(Finding(Severity.ERROR, server, f"it refuses what an upload needs: {refused.text}"))
    except Lost as error:
        findings.append(Finding(Severity.ERROR, server, f"the connection was lost: {error.reason}"))
    finally:
        release(session)
    return findings


def _directories_and_reading(
    server: str,
    session: FileSession,
    key_prefixes: Sequence[str],
    minimum_proof: Proof,
    findings: list[Finding],
    steps: Steps,
) -> Iterator[Finding]:
    """The steps that depend on what was found before."""
    if all(finding.severity is not Severity.ERROR for finding in findings):
        yield from check_prefixes(server, session, key_prefixes, begin=steps.begin)
    computes = any(finding.fact.startswith(COMPUTES) for finding in findings)
    yield from check_reading(server, session, is_proof=minimum_proof > Proof.SIZE and not computes)


_BLIND = "does not show a file that was just written"
_NO_DIRECTORY = "a directory cannot be made"


def _judged(finding: Finding, minimum_proof: Proof, *, makes_directories: bool) -> Finding:
    """Adapt a finding to the configuration: to uploads without proof, and to files in a directory for each hour."""
    severity, meaning = finding.severity, finding.meaning
    if finding.fact == _BLIND and minimum_proof is Proof.NONE:
        severity, meaning = Severity.WARNING, "Nothing is proven: the server's answer to each upload is trusted."
    elif makes_directories and finding.fact.startswith(_NO_DIRECTORY):
        severity, meaning = Severity.ERROR, "Give the user permission to make directories."
    return Finding(severity, finding.subject, finding.fact, meaning)


def _listing(server: str, session: FileSession) -> Iterator[Finding]:
    """Whether a directory can be listed, which some features need."""
    try:
        session.listing(session.base, lambda _: None, most=_LISTED_BYTES)
    except Refused as refused:
        yield Finding(
            Severity.NOTE,
            server,
            f"the directory cannot be listed: {refused.text}",
            "For the audit, and to remove what killed runs have left, give the user permission to list.",
        )


def _round_trip(
    server: str,
    session: FileSession,
    temporary_names: str,
    learned: Learned,
    clock_offset: float,
    stored: Callable[[str], None],
    link: Callable[[str, str], None] | None,
) -> Iterator[Finding]:
    """Perform the steps of an upload: store, look, prove, rename, look, delete."""
    probes = _Probes(session)
    content = secrets.token_bytes(64)
    try:
        path = probes.store(content, temporary_names, learned)
        if learned.takes_no_hidden_names and temporary_names == "auto":
            yield Finding(
                Severity.NOTE,
                server,
                "accepts no names that begin with a dot",
                "Incomplete files are visible under names that end in .s3-uploader-part.",
            )
    except Refused as refused:
        advice = "Make room there" if refused.origin is Origin.FULL else "Give the user permission to write"
        if temporary_names == "hidden" and refused.origin is not Origin.FULL:
            advice += ", or set temporary_names to visible if the server takes no names with a dot"
        yield Finding(Severity.ERROR, server, f"a file cannot be written: {refused.text}", f"{advice}.")
        probes.remove()
        return
    try:
        with hurried(session):
            stored(path.rpartition("/")[2])
            is_seen = yield from _after_storing(server, session, path, content, clock_offset)
            if temporary_names != "none":
                yield from _naming(server, session, probes, path, content, link if is_seen else None, is_seen=is_seen)
            yield from _directories(server, session, probes, renames=temporary_names != "none", is_seen=is_seen)
    finally:
        with contextlib.suppress(Lost):
            for one, refusal in probes.remove().items():
                yield Finding(
                    Severity.WARNING,
                    server,
                    f"the test file {one} cannot be deleted: {refusal}",
                    "Give the user permission to delete: parts of failed uploads would stay, and a lock file too. With "
                    "on_conflict: overwrite nothing is replaced where a rename does not replace.",
                )


class _Probes:
    """The test files of ``check``."""

    def __init__(self, session: FileSession) -> None:
        self._session = session
        self._made: list[str] = []
        self.base = session.base.rstrip("/")
        self.hidden = True

    def name(self) -> str:
        """A new path. What is stored there is removed at the end."""
        dot = "." if self.hidden else ""
        path = f"{self.base}/{dot}s3-uploader-check-{secrets.token_hex(8)}"
        self._made.append(path)
        return path

    def store(self, content: bytes, temporary_names: str, learned: Learned) -> str:
        """Store a first file under a temporary name like those of uploads."""
        self.hidden = temporary_names in ("auto", "hidden")
        path = self.name()
        try:
            self._session.store(path, [content])
        except Refused as refused:
            if temporary_names != "auto" or refused.origin is Origin.FULL:
                raise
            self.hidden = False
            path = self.name()
            self._session.store(path, [content])
            learned.takes_no_hidden_names = True
        else:
            if self.hidden:
                learned.takes_no_hidden_names = False
        return path

    def remove(self) -> dict[str, str]:
        """Remove the files. Returns those that remain, and why."""
        stays = {}
        for path in self._made:
            # By its name: a server may show no file, and most of them are gone already.
            try:
                self._session.remove(path)
            except Refused as refused:
                if self._session.size(path) is not None:
                    stays[path] = refused.text
        return stays


def _after_storing(
    server: str, session: FileSession, path: str, content: bytes, clock_offset: float
) -> Generator[Finding, None, bool]:
    """What the server says of the file; returns whether it shows it. Otherwise no later step can be judged by that."""
    size = session.size(path, thoroughly=True)
    if size is None:
        yield Finding(
            Severity.ERROR,
            server,
            _BLIND,
            "Give the user permission to list; for a drop box set minimum_proof to none.",
        )
    elif size != len(content):
        yield Finding(Severity.ERROR, server, "reports another size than was sent", "Nothing would be shipped.")
    else:
        yield Finding(Severity.OK, server, "a file was written and its size confirmed")
        yield from check_proof(server, session, path, content)
        yield from check_clock(server, session, path, clock_offset)
    return size is not None


def _naming(
    server: str,
    session: FileSession,
    probes: _Probes,
    path: str,
    content: bytes,
    link: Callable[[str, str], None] | None,
    *,
    is_seen: bool,
) -> Iterator[Finding]:
    if link is not None and (yield from _links(server, session, probes, path, content, link)):
        return
    yield from _renames(server, session, probes, path, content, is_seen=is_seen)


def _links(
    server: str, session: FileSession, probes: _Probes, path: str, content: bytes, link: Callable[[str, str], None]
) -> Generator[Finding, None, bool]:
    """Whether a file gets its name by a hard link, which overwrites nothing."""
    other = probes.name()
    try:
        link(path, other)
        if session.size(other, thoroughly=True) != len(content):
            return False
        try:
            link(path, other)
        except Refused:
            session.remove(path)
            yield Finding(Severity.OK, server, "a file gets its name by a hard link, which replaces nothing")
            return True
    except Refused:
        yield Finding(Severity.NOTE, server, "has no hard links", "Files are renamed, after a look.")
    return False


def _renames(
    server: str, session: FileSession, probes: _Probes, path: str, content: bytes, *, is_seen: bool
) -> Iterator[Finding]:
    other = probes.name()
    try:
        session.rename(path, other)
    except Refused as refused:
        yield Finding(
            Severity.ERROR,
            server,
            f"a file cannot be renamed: {refused.text}",
            "Give the user permission to rename, or set temporary_names to none.",
        )
        return
    if not is_seen:
        return
    if session.size(other, thoroughly=True) != len(content):
        yield Finding(
            Severity.ERROR, server, "a renamed file is not there under its new name", "Nothing would be shipped."
        )
        return
    try:
        session.store(path, [content])
        session.rename(path, other)
    except Refused:
        yield Finding(Severity.OK, server, "a rename does not replace a file that is there")
    else:
        yield Finding(
            Severity.NOTE,
            server,
            "a rename replaces a file that is there",
            "The uploader looks first; let nobody else write the same names at the same time.",
        )


def _directories(
    server: str, session: FileSession, probes: _Probes, *, renames: bool, is_seen: bool
) -> Iterator[Finding]:
    directory = probes.name()
    try:
        session.make_directory(directory)
    except Refused as refused:
        yield Finding(
            Severity.WARNING,
            server,
            f"{_NO_DIRECTORY}: {refused.text}",
            "Only files whose directory is there already can be shipped: give the user permission to make directories.",
        )
        return
    with contextlib.suppress(Refused):
        session.remove_directory(directory)
    if not is_seen:
        return
    with contextlib.suppress(Refused):
        parts = PartNames(secrets.token_hex(8))
        names = learn_names(session, probes.base or "/", parts, hidden=probes.hidden, renames=renames)
        if names is Names.CHANGED:
            yield Finding(
                Severity.WARNING,
                server,
                "stores files under other names than they are given",
                "Files whose names it changes are not shipped.",
            )
        elif names is Names.FOLDED:
            yield Finding(
                Severity.NOTE,
                server,
                "does not distinguish upper and lower case",
                "Of two files whose names differ only in case, one is not shipped.",
            )
