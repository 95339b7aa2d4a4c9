"""What a run tells: log, progress, metrics, pings."""
