"""``python -m s3_uploader`` is ``s3-uploader-cli``."""

import sys

from s3_uploader.cli import main

sys.exit(main())
