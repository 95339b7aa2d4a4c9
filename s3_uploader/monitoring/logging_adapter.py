"""Passes events to the standard library's ``logging``, for programs that use this one as a library."""

from __future__ import annotations

import logging

from s3_uploader.core.events import Event
from s3_uploader.monitoring.messages import level_and_sentence

LOGGER_NAME = "s3_uploader"


class LoggingAdapter:
    """Subscriber that passes each event to a logger, by default ``s3_uploader``; ``record.event`` is the event."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger(LOGGER_NAME)

    def __call__(self, event: Event) -> None:
        """Log an event."""
        if getattr(event, "is_repeated", False):
            return
        level, sentence = level_and_sentence(event)
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", sentence, extra={"event": event})
