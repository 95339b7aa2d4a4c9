"""Names and words that are needed before a command-line parser is loaded, or where nothing more can be loaded."""

from __future__ import annotations

import enum

COMMANDS = (
    *("init", "run", "watch", "check", "status", "forget", "history", "audit", "report", "ledger", "units"),
    *("schema", "completion", "demo"),
)
"""The commands. Any other first argument is a configuration file."""

COMPLETION_VARIABLE = "_S3_UPLOADER_CLI_COMPLETE"
"""Set by a shell that asks for completions."""

NO_MEMORY = "The system has no memory left. Files that were not shipped are kept."
"""The whole message when there is not even memory for more."""


class Form(enum.Enum):
    """The form of the message when an error ends a command."""

    TEXT = "text"
    """Sentences on standard error."""
    JSON = "json"
    """A JSON document on standard output."""
    LOG = "log"
    """A line of the JSON log on standard error."""
    PLUGIN = "plugin"
    """The line of a monitoring plugin on standard output, for an unknown state."""
