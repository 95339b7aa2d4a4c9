"""Ends the pauses of failed files when the configuration or the credentials have changed.

While files fail, the ledger remembers a short digest of configuration and credentials. A different digest in the next
run shows that they have changed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from s3_uploader.config.destinations import FtpDestination, S3Destination, SftpDestination
from s3_uploader.config.schema import Config
from s3_uploader.core.events import Emit, Notice
from s3_uploader.core.model import NOT_JSON
from s3_uploader.core.text import counted
from s3_uploader.ledger import FailingRow, Ledger, LedgerReader

_NAME = "pauses:configured"
_CONFLICT = "Conflict"
_KEYS = ("destination", "layout", "key_prefix", "compress", "locations", "on_success", "on_failure", "timezone")
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_ROLE_ARN")
_AWS_FILES = (
    ("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
    ("AWS_CONFIG_FILE", "~/.aws/config"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", ""),
)


class Configured(msgspec.Struct, frozen=True):
    """The digests of a run: of ``on_conflict``, and of everything else."""

    conflicts: int
    others: int


def end_pauses(config: Config, ledger: Ledger, *, environ: Mapping[str, str], now: float, emit: Emit) -> None:
    """End the pauses of failing files that are affected by a change since the last run."""
    current = configured(config, environ)
    before = _recalled(ledger, now)
    if before == current:
        return
    remember(ledger, current, now=now)
    if before is None:
        return
    is_about_conflicts = before.others == current.others
    ended = ledger.end_pauses(code=_CONFLICT if is_about_conflicts else None, now=now)
    if ended:
        what = "on_conflict has" if is_about_conflicts else "the configuration or the credentials have"
        tries = "is tried" if ended == 1 else "are tried"
        emit(Notice("info", f"Since {what} changed, {counted(ended, 'file')} that failed {tries} again now."))


def failures_in_next_run(
    config: Config, ledger: LedgerReader, *, environ: Mapping[str, str], now: float
) -> Callable[[str], FailingRow | None]:
    """How the next run finds the record of a file that failed: without those whose pauses it ends at its start."""
    before, current = _recalled(ledger, now), configured(config, environ)
    if before is None or before == current:
        return ledger.failing

    def failing(path: str) -> FailingRow | None:
        row = ledger.failing(path)
        still_waits = row is not None and before.others == current.others and row.code != _CONFLICT
        return row if still_waits else None

    return failing


def note(config: Config, ledger: Ledger, *, environ: Mapping[str, str], now: float) -> None:
    """Remember the digests of a run in which files failed."""
    current = configured(config, environ)
    if _recalled(ledger, now) != current:
        remember(ledger, current, now=now)


def remember(ledger: Ledger, current: Configured, *, now: float) -> None:
    """Store the digests for the next run."""
    ledger.remember(_NAME, msgspec.json.encode(current).decode(), now=now)


def _recalled(ledger: Ledger | LedgerReader, now: float) -> Configured | None:
    try:
        return msgspec.json.decode(ledger.recall(_NAME, now=now, max_age=float("inf")) or "", type=Configured)
    except NOT_JSON:
        return None


def configured(config: Config, environ: Mapping[str, str]) -> Configured:
    """The digest of a configuration with the environment's credentials.

    It is short on purpose: it shows that a secret has changed, and nothing about it.
    """
    conflicts: list[str] = [config.destination.on_conflict]
    conflicts += [f"{name}={location.on_conflict}" for name, location in config.locations.items()]
    values: Any = msgspec.to_builtins({name: getattr(config, name) for name in _KEYS})
    for each in (values["destination"], *values["locations"].values()):
        each.pop("on_conflict", None)
    return Configured(_digits(conflicts), _digits([values, *_credentials(config, environ)]))


def _credentials(config: Config, environ: Mapping[str, str]) -> Iterator[object]:
    destination = config.destination
    if isinstance(destination, S3Destination):
        yield from (environ.get(name) for name in _AWS)
        yield from (_version_of(environ.get(name) or default) for name, default in _AWS_FILES)
    elif isinstance(destination, FtpDestination):
        yield environ.get(destination.password_env)
        yield _version_of(destination.password_file or "")
    elif isinstance(destination, SftpDestination):
        yield environ.get(destination.password_env)
        yield environ.get(destination.passphrase_env)
        files = (destination.password_file, destination.private_key_file)
        yield from (_version_of(name) for name in files if name is not None)
        # A host key that was not known may be known now.
        yield _version_of(destination.known_hosts_file or "~/.ssh/known_hosts")


def _version_of(path: str) -> list[int]:
    try:
        status = os.stat(os.path.expanduser(path))
    except OSError:
        return []
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def _digits(value: object) -> int:
    return zlib.crc32(msgspec.json.encode(value)) & 0xFFFF
