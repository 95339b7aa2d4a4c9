"""Stores that stand before another store."""
