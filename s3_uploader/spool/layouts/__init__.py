"""How a spool is read: which entries are candidates, which key each gets, which data time it carries."""
