"""Names that are known before a command-line parser is loaded."""

from __future__ import annotations

COMMANDS = (
    *("init", "run", "watch", "check", "status", "forget", "history", "audit", "report", "ledger", "units"),
    *("schema", "completion", "demo"),
)
"""The commands; a first argument that is none of them is a configuration file."""

COMPLETION_VARIABLE = "_S3_UPLOADER_CLI_COMPLETE"
"""Set by a shell that asks what may come next."""
