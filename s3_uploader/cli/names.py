"""Names that are needed before a command-line parser is loaded."""

from __future__ import annotations

COMMANDS = (
    *("init", "run", "watch", "check", "status", "forget", "history", "audit", "report", "ledger", "units"),
    *("schema", "completion", "demo"),
)
"""The commands. Any other first argument is a configuration file."""

COMPLETION_VARIABLE = "_S3_UPLOADER_CLI_COMPLETE"
"""Set by a shell that asks for completions."""
