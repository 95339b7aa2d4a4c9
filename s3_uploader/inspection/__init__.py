"""Read-only views: the status, the preview of a run, the audit, the report."""
