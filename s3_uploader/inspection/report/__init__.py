"""The report: the history in a ledger as an HTML page with charts, or as JSON."""
