"""Metrics for Prometheus: their values, their text format, and where they are served."""
