"""One pass over the spool, from the configuration to the run report."""
