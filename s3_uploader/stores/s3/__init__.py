"""S3 as a destination: uploads in one request or in parts, proof, conflicts, checks."""
