"""Long-running parts: ``watch``, and the uploader inside another program."""
