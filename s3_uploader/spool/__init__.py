"""The local side: which files are candidates, when they are ready, and what becomes of them."""
