"""Destinations: the protocol they share and one module for each kind."""
