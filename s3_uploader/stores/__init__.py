"""Destinations: their common protocol, and a folder for each kind."""
