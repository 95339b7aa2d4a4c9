"""The names of the commands; a first argument that is none of them is a configuration file."""

from __future__ import annotations

COMMANDS = ("run", "watch", "check", "status", "history", "audit", "report", "units", "schema", "demo")
