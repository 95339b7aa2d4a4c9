"""The errors, under the name by which programs import them; they are made in :mod:`s3_uploader.core.errors`."""

from __future__ import annotations

from s3_uploader.core.errors import *  # noqa: F403
