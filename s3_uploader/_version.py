"""What is installed under which name: the only place that knows the version, and what the distribution is called."""

__version__ = "0.1.0"

DISTRIBUTION = "s3-spool-uploader"
"""The name for pip. The command and the package are called otherwise, as from the beginning: their name was taken."""
