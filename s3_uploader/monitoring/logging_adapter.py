"""Passes events to the standard library's ``logging``, for programs that use this one as a library."""

from __future__ import annotations

import contextlib
import logging
import traceback

from s3_uploader.core.control import is_of_a_handler
from s3_uploader.core.events import Event
from s3_uploader.monitoring.log import level_and_sentence

LOGGER_NAME = "s3_uploader"


class LoggingAdapter:
    """Subscriber that passes each event to a logger, by default ``s3_uploader``; ``record.event`` is the event.

    An exception in a handler or filter of that logger is printed once, as ``logging`` does it for its own handlers, and
    does not affect the run.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER_NAME)
        self._has_failed = False

    def __call__(self, event: Event) -> None:
        """Log an event."""
        if getattr(event, "is_repeated", False):
            return
        level, sentence = level_and_sentence(event)
        try:
            if self._logger.isEnabledFor(level):
                self._logger.log(level, "%s", sentence, extra={"event": event})
        except Exception as error:
            if is_of_a_handler(error):
                raise
            self._print_once()

    def _print_once(self) -> None:
        if logging.raiseExceptions and not self._has_failed:
            self._has_failed = True
            with contextlib.suppress(OSError, ValueError):  # standard error is closed
                traceback.print_exc()
