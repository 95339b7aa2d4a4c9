"""Files that let systemd or cron run the program, confined to what a configuration needs."""
