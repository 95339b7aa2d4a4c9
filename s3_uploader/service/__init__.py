"""What stays up: ``watch``, and the uploader inside another program."""
