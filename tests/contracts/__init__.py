"""Suites that every implementation of a protocol passes: a new one adds a fixture and nothing else."""
