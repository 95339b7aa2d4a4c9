"""What a run reports: log, progress, metrics, pings."""
