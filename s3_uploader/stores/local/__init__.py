"""A local directory as a destination."""
