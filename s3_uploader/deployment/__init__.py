"""Files that let systemd or cron run the program, locked into exactly what a configuration needs."""
