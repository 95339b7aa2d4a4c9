"""The local side: which files are candidates, when they are ready, and how they are removed."""
