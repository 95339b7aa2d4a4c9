#!/bin/sh
# One spool on a file system that all nodes share, shipped by eight tasks: sbatch s3-uploader-array.sh [CONFIG_FILE]
# The array has to count from 0, and every task gets the share of its number. "state_dir" in the configuration has to
# be on the shared file system too, so that `status` and `audit` see all shares.
#SBATCH --job-name=s3-uploader
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=512M
#SBATCH --time=01:00:00
# A task whose node dies is started anew, and goes on with its share.
#SBATCH --requeue
# SIGTERM a minute before the time is over: the run finishes what is under way.
#SBATCH --signal=B:TERM@60

CONFIG="${1:-/etc/s3-uploader/config.json}"
# Not the number of tasks that Slurm reports: `sbatch --array=5` runs one share again, and that is still one of eight.
SHARES=8

# The file system may need a moment to release what a dead node held.
exec s3-uploader-cli run --quiet --share "/$SHARES" --wait-for-lock 90 "$CONFIG"
