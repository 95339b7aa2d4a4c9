"""Layouts: which entries of a spool are candidates, and their keys and data times."""
