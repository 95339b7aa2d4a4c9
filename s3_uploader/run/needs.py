"""Checks what a run needs of this machine by doing what the run does, before the first file is removed."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator

from s3_uploader.config.destinations import S3Destination
from s3_uploader.config.schema import Config
from s3_uploader.core.errors import KeyRefused, StateError, UploaderError
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import Candidate, Fingerprint
from s3_uploader.core.text import counted, shown_name
from s3_uploader.ledger import Ledger, create_state_directory
from s3_uploader.run.assembly import failure_policy, success_policy
from s3_uploader.run.claiming import HINT_OF_OTHERS, LEFT_BY_OTHERS, open_claims
from s3_uploader.run.place import Place
from s3_uploader.run.routing import constant_prefixes
from s3_uploader.spool.mounts import mounted_below
from s3_uploader.spool.move_target import MoveTarget
from s3_uploader.spool.open_file import OpenFile
from s3_uploader.spool.root import SpoolRoot
from s3_uploader.stores.keys import path_segments

_PROBE = ".s3-uploader-check"
_CONTENT = b"s3_uploader was here to see whether this file can be moved.\n"
_LEDGER_FILES = ("", "-wal", "-shm", "-journal")
OK, NOTE, WARNING, ERROR = Severity.OK, Severity.NOTE, Severity.WARNING, Severity.ERROR


def check_needs(place: Place) -> list[Finding]:
    """Check that the ledger can be written, and that files can be claimed and moved as configured."""
    config = place.config
    findings = [_check_ledger(place)]
    if config.claim_dir is not None:
        claim_dir = os.path.abspath(config.claim_dir)
        findings += [_check_claims(place), *_check_mounts(place.root), *_check_strangers(claim_dir, place.root)]
    for key, target in (("on_success", success_policy(config).move_to), ("on_failure", failure_policy(config).move_to)):
        if target is not None:
            findings += _check_move(place.root, key, target)
    return findings


def check_state_directory(state_dir: str) -> list[Finding]:
    """Whether the state directory can be made and written."""
    try:
        create_state_directory(state_dir)
    except UploaderError as error:
        return [Finding(ERROR, "state", error.message, error.hint)]
    if not os.access(state_dir, os.W_OK | os.X_OK):
        return [
            Finding(
                ERROR,
                "state",
                f"{state_dir} cannot be written by this user.",
                "Set state_dir, or correct its permissions. Files that cannot be recorded are not deleted.",
            )
        ]
    return [Finding(OK, "state", f"{state_dir} can be written.")]


def check_telling(config: Config) -> list[Finding]:
    """Check that metrics can be written, and report where pings go."""
    findings = []
    if config.metrics_file is not None:
        from s3_uploader.monitoring.metrics.textfile import check_metrics_file

        findings.append(check_metrics_file(config.metrics_file))
    if config.ping_url is not None:
        from s3_uploader.monitoring.ping import host_of

        findings.append(Finding(OK, "ping_url", f"pings go to {host_of(config.ping_url)}."))
    return findings


def check_key_prefixes(config: Config) -> list[Finding]:
    """Check that keys with the configured prefixes are paths, where they must be. For S3, a test object shows it."""
    findings = []
    for prefix in () if isinstance(config.destination, S3Destination) else dict.fromkeys(constant_prefixes(config)):
        try:
            path_segments(f"{prefix}NAME")
        except KeyRefused as error:
            findings.append(Finding(ERROR, "key_prefix", error.message, "No file can be uploaded there. Correct it."))
    return findings


def _check_ledger(place: Place) -> Finding:
    """Make a test ledger beside the real one, and check that the real one is a ledger that this user may write."""
    for suffix in _LEDGER_FILES:
        path = place.ledger_path + suffix
        if os.path.lexists(path) and not os.access(path, os.R_OK | os.W_OK):
            return Finding(
                ERROR,
                "ledger",
                f"{shown_name(path)} cannot be read and written by this user.",
                "Files that cannot be recorded are not deleted. Give the ledger to the user that runs this program.",
            )
    if os.path.lexists(place.ledger_path):
        try:
            Ledger.open_readonly(place.ledger_path).close()
        except StateError as error:
            # A run sets a damaged ledger aside.
            return Finding(WARNING if error.is_damaged else ERROR, "ledger", error.message, error.hint)
    probe = f"{place.ledger_path}{_PROBE}-{secrets.token_hex(4)}"
    try:
        with Ledger.open(probe, notice=lambda sentence: None):
            pass
    except UploaderError as error:
        return Finding(ERROR, "ledger", error.message, error.hint)
    finally:
        for suffix in _LEDGER_FILES:
            with contextlib.suppress(OSError):
                os.unlink(probe + suffix)
    return Finding(OK, "ledger", "shipped files can be recorded.")


def _check_claims(place: Place) -> Finding:
    directory = os.path.abspath(place.config.claim_dir or "")
    try:
        with _without_new_directories(directory), _probe(place.root) as file:
            claims = open_claims(place)
            assert claims is not None
            try:
                taken = claims.take(file.candidate)
                claims.give_back(file.candidate)
                returned = _is_there(place.root, file.candidate.name)
            finally:
                claims.close()
    except UploaderError as error:
        return Finding(ERROR, "claim_dir", error.message, error.hint)
    except OSError as error:
        return Finding(
            ERROR,
            "claim_dir",
            f"no file can be claimed by a rename into {shown_name(directory)}: {error.strerror or error}.",
            "Put claim_dir beside the spool, on the same mount, and let the user that runs this program write to it.",
        )
    if not taken or not returned:
        return Finding(
            ERROR,
            "claim_dir",
            f"a file that was claimed in {shown_name(directory)} could not be returned to the spool.",
            "Let the user that runs this program write to the spool and to claim_dir.",
        )
    return Finding(OK, "claim_dir", f"files can be claimed in {shown_name(directory)}.")


def _check_mounts(root: SpoolRoot) -> list[Finding]:
    """Report parts of the spool from which nothing can be renamed into a directory outside of them."""
    inside = mounted_below(root.base_dir)
    if not inside:
        return []
    more = f" ({counted(len(inside) - 1, 'other mount')} too)" if len(inside) > 1 else ""
    return [
        Finding(
            WARNING,
            "claim_dir",
            f"no file below {shown_name(inside[0])} can be claimed, because that is a mount of its own{more}.",
            "Such files stay in the spool. Ship them with a configuration of their own, with base_dir and claim_dir on "
            "that mount.",
        )
    ]


def _check_strangers(claim_dir: str, root: SpoolRoot) -> list[Finding]:
    """Report other entries of the directory, which nobody ships."""
    from s3_uploader.spool.claim_dir import left_by_others, strangers, strangers_in_words

    found = strangers(claim_dir, root)
    findings = [Finding(WARNING, "claim_dir", *strangers_in_words(claim_dir, found))] if found else []
    for path in left_by_others(claim_dir, root):
        sentence = f"{shown_name(path)} cannot be returned to the spool: {LEFT_BY_OTHERS}."
        findings.append(Finding(WARNING, "claim_dir", sentence, HINT_OF_OTHERS))
    return findings


def _check_move(root: SpoolRoot, key: str, target: MoveTarget) -> list[Finding]:
    """Move a small test file there as a run would, and remove it again."""
    moved = ""
    try:
        with _without_new_directories(target.path), _probe(root) as file:
            try:
                moved = target.receive(root.descriptor, file.candidate.name, file)
                is_copied = os.stat(moved, follow_symlinks=False).st_dev != file.fingerprint.device
            finally:
                if moved:
                    os.unlink(moved)
    except OSError as error:
        return [
            Finding(
                ERROR,
                key,
                f"files cannot be moved to {shown_name(target.path)}: {error.strerror or error}.",
                "They would stay in the spool: correct move_to, or let the user that runs this program make it and "
                "write to it.",
            )
        ]
    findings = [Finding(OK, key, f"files can be moved to {shown_name(target.path)}.")]
    if is_copied:
        findings.append(
            Finding(
                NOTE,
                key,
                f"{shown_name(target.path)} lies on another file system than the spool.",
                "Files are copied there, which is slow. Each is removed from the spool when its copy is on the disk.",
            )
        )
    return findings


@contextlib.contextmanager
def _probe(root: SpoolRoot) -> Iterator[OpenFile]:
    """Make a small file at the top of the spool. It is open for writing all the time, so that no run ships it.

    :raises OSError: if it cannot be made.
    """
    name = f"{_PROBE}-{secrets.token_hex(6)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    writer = os.open(name, flags, 0o600, dir_fd=root.descriptor)
    reader = -1
    try:
        os.write(writer, _CONTENT)
        reader = root.open_file((), name)
        seen = Fingerprint.of(os.fstat(reader))
        candidate = Candidate((), name, name, None, None, "", seen.mtime_ns, seen.size)
        yield OpenFile(candidate, reader, seen, root, os.geteuid())
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=root.descriptor)
        for descriptor in (writer, reader):
            if descriptor >= 0:
                os.close(descriptor)


@contextlib.contextmanager
def _without_new_directories(directory: str) -> Iterator[None]:
    """Remove the directories of a path that were created meanwhile: runs of another user might not write there."""
    missing = []
    path = directory
    while not os.path.lexists(path) and path != os.path.dirname(path):
        missing.append(path)
        path = os.path.dirname(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                os.rmdir(path)


def _is_there(root: SpoolRoot, name: str) -> bool:
    try:
        root.stat((), name)
    except OSError:
        return False
    return True
