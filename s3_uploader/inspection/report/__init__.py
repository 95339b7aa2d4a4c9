"""The report: what a ledger remembers as one HTML page with charts, or as JSON."""
