"""The command, as it is, but that it takes few files for many: so a run of some hundred is divided among processes."""

from __future__ import annotations

import os
import sys

from s3_uploader.cli.commands import command_line
from s3_uploader.run import division, pipeline, workers

WORKERS_FROM, FIRST_QUESTION, WORTH_FILES = 5, 20, 40
SILENT_SECONDS = "TEST_SILENT_SECONDS"
"""The variable for how long a worker may be silent."""

if __name__ == "__main__":
    pipeline.WORKERS_FROM = WORKERS_FROM
    workers.FIRST_QUESTION = FIRST_QUESTION
    division.WORTH_FILES = WORTH_FILES
    workers.SILENT_SECONDS = float(os.environ.get(SILENT_SECONDS, workers.SILENT_SECONDS))
    sys.exit(command_line(sys.argv[1:]))
