"""What only looks: the status, the preview of a run, the audit, the report."""
