"""Metrics for Prometheus: what is counted, how it is written, where it is served."""
