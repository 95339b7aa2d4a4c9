"""The installed command, seen from outside: it runs in processes of its own, and the package is never imported."""
