"""The configuration of a run that ships a share of the files: its share, and its metrics file.

Most runs ship all files, and load none of this (:func:`s3_uploader.config.loading.resolved`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.schema import Config

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share


def with_share(config: Config, environ: Mapping[str, str]) -> Config:
    """See :func:`s3_uploader.config.loading.resolved`."""
    from s3_uploader.core.shares import chosen

    share = chosen(config.share, environ)
    if share is None:
        return config
    return msgspec.structs.replace(config, share=str(share), metrics_file=_own(config.metrics_file, share))


def share_of(config: Config) -> Share | None:
    """The share of a resolved configuration; ``None`` means all files.

    :raises UsageProblem: if it is not resolved.
    """
    if config.share is None:
        return None
    from s3_uploader.core.shares import chosen

    return chosen(config.share, {})


def share_name(config: Config) -> str:
    """The share of a resolved configuration as the label of metrics; empty for all files."""
    return str(share_of(config) or "")


def whole(config: Config) -> Config:
    """The configuration without a share, for commands that look at the whole spool."""
    return config if config.share is None else msgspec.structs.replace(config, share=None)


def unasked(before: Config, now: Config) -> str:
    """A warning about a share that was not requested explicitly; empty if it was.

    A task of a Slurm array may have a spool of its own, and then most of its files would stay.
    """
    if before.share is not None or now.share is None:
        return ""
    return (
        f"This run ships the share {now.share} of the files, because it is a task of a Slurm array; the other tasks "
        f"have to ship the rest. Say so with --share {now.share.lstrip('0123456789')}, or with --share 0/1 if each "
        "task has a spool of its own."
    )


def _own(path: str | None, share: Share) -> str | None:
    if path is None:
        return None
    stem, ending = os.path.splitext(path)
    return path if stem.endswith(f"-{share.name}") else f"{stem}-{share.name}{ending}"
