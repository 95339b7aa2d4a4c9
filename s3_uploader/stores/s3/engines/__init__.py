"""The engines, which send requests to S3 and report the outcome."""
