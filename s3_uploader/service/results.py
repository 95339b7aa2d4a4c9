"""The result of one file, for the program that embeds the uploader."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import msgspec

from s3_uploader.core.control import is_of_a_handler
from s3_uploader.core.events import Event, FileLeft, LocalTrouble, Uploaded, UploadFailed
from s3_uploader.core.model import Left, Receipt
from s3_uploader.core.text import shown_name

logger = logging.getLogger("s3_uploader")


class FileOutcome(enum.Enum):
    """The outcome of a file."""

    SHIPPED = "shipped"
    """It is proven to be at the destination, and ``on_success`` is done."""
    ALREADY_THERE = "already there"
    """The same, but the same content was there before."""
    FAILED = "failed"
    """It could not be shipped: it is tried again, or `on_failure` has moved or deleted it (no ``next_try_at``)."""
    LEFT = "left"
    """It was left; ``reason`` says why."""
    TROUBLE = "trouble"
    """Something local went wrong: it cannot be read, or it cannot be removed after it was shipped."""


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one file in one pass.

    :param address: its address at the destination, e.g. ``bucket/key``; empty if it was not sent.
    :param receipt: the destination's receipt.
    :param reason: why it was left.
    :param code: the code of the error, from the destination or this program. ``message`` and ``hint`` are for
        people.
    :param next_try_at: when the next try is due, seconds since the epoch.
    """

    path: Path
    outcome: FileOutcome
    size: int = 0
    address: str = ""
    receipt: Receipt | None = None
    reason: Left | None = None
    code: str = ""
    message: str = ""
    hint: str = ""
    next_try_at: float | None = None


OnFile: TypeAlias = Callable[[FileResult], object]
"""Called with the result of each file, on the thread that ships."""


def result_of(event: Event) -> FileResult | None:
    """Convert an event to the result of a file; ``None`` if it is about something else."""
    if isinstance(event, Uploaded):
        receipt = event.receipt
        outcome = FileOutcome.ALREADY_THERE if receipt.already_there else FileOutcome.SHIPPED
        return FileResult(
            path=Path(event.path), outcome=outcome, size=receipt.size, address=event.address, receipt=receipt
        )
    if isinstance(event, UploadFailed):
        return FileResult(
            path=Path(event.path),
            outcome=FileOutcome.FAILED,
            address=event.address,
            code=event.code,
            message=event.message,
            hint=event.hint,
            next_try_at=event.next_try_at,
        )
    if isinstance(event, FileLeft):
        return FileResult(
            path=Path(event.path),
            outcome=FileOutcome.LEFT,
            size=event.size,
            reason=event.reason,
            message=event.detail,
        )
    if isinstance(event, LocalTrouble):
        return FileResult(path=Path(event.path), outcome=FileOutcome.TROUBLE, message=event.message, hint=event.hint)
    return None


class FileReporter:
    """Passes the results of files to a callback. An exception in it is logged once and does not affect the run.

    :param caught: the exceptions for which this holds. On a thread of our own it holds for all: ``sys.exit()`` would
        end the thread without a word.
    """

    def __init__(self, on_file: OnFile, *, caught: type[BaseException] = Exception) -> None:
        self._on_file = on_file
        self._caught = caught
        self._has_failed = False

    def __call__(self, event: Event) -> None:
        """Handle an event."""
        result = result_of(event)
        if result is None:
            return
        try:
            self._on_file(result)
        except self._caught as error:
            if is_of_a_handler(error):
                raise
            # The run has other files, and this one's removal may be yet to come.
            if not self._has_failed:
                self._has_failed = True
                logger.exception(
                    "on_file failed for %s. Further failures are not reported.", shown_name(str(result.path))
                )
