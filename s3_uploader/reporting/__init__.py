"""Subscribers to the events of a run: log, progress, metrics, pings."""
