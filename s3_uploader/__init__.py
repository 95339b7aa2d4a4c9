"""Empties a spool directory into object storage without ever losing a byte."""

__version__ = "0.1.0"
