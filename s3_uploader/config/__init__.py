"""The configuration: its keys as typed structs, and how a file becomes one of them.

The file is JSON. ``{"base_dir": "...", "bucket": "..."}`` is complete; every other key has a default. The destination
may be given in the short form, its keys beside ``base_dir``, or as ``"destination": {"type": ...}``.
"""

from s3_uploader.config.destinations import FtpDestination, LocalDestination, S3Destination, SftpDestination
from s3_uploader.config.loading import decode, from_mapping, load, password_variables, without_file
from s3_uploader.config.schema import Compress, Config, Destination, Location, MoveTo

__all__ = [
    "Compress",
    "Config",
    "Destination",
    "FtpDestination",
    "LocalDestination",
    "Location",
    "MoveTo",
    "S3Destination",
    "SftpDestination",
    "decode",
    "from_mapping",
    "load",
    "password_variables",
    "without_file",
]
