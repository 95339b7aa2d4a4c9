"""Why a spool is stuck, and what of it is told."""
