"""``python -m s3_uploader`` is ``s3-uploader-cli``."""

from s3_uploader.cli import command

command()
