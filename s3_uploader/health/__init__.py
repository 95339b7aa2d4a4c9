"""Why a spool is stuck, and when a person is told."""

MEMORY_PREFIX = "seen:"
"""What was noticed stands in the ledger under names that begin so,"""
MEMORY_NAME = "files"
"""all of it under this one."""
NOTHING_SEEN = "{}"
"""What stands there as long as there is nothing to notice."""
