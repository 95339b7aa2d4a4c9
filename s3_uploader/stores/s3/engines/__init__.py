"""What sends a request to S3 and calls back with what came of it."""
