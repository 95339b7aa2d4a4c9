"""Where a configuration works: its spool and its state, and that the one does not lie in the other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from s3_uploader.config.schema import Config, LocalDestination, MoveTo
from s3_uploader.core.errors import SpoolError
from s3_uploader.ledger import LEDGER_NAME
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.run.assembly import build_layout, move_directory
from s3_uploader.spool.layouts.base import Layout
from s3_uploader.spool.root import SpoolRoot


class Place(msgspec.Struct, frozen=True):
    """An open spool and where its state lives."""

    config: Config
    root: SpoolRoot
    layout: Layout
    state_dir: str

    @property
    def ledger_path(self) -> str:
        """Where the ledger is, or would be."""
        return os.path.join(self.state_dir, LEDGER_NAME)


@contextmanager
def open_place(config: Config, *, environ: Mapping[str, str] = os.environ) -> Iterator[Place]:
    """Open the spool of a configuration and make sure that nothing of our own lies where it would be shipped.

    :raises SpoolError: if the spool cannot be used.
    """
    root = SpoolRoot(config.base_dir)
    try:
        state_dir = os.path.dirname(ledger_path(config, environ=environ))
        _refuse_overlap(config, root, state_dir)
        yield Place(config, root, build_layout(config), state_dir)
    finally:
        root.close()


def _refuse_overlap(config: Config, root: SpoolRoot, state_dir: str) -> None:
    base = os.path.realpath(config.base_dir)
    if _is_within(state_dir, base):
        raise SpoolError(
            f"The state directory {state_dir} lies in the spool {config.base_dir}.",
            hint="Set state_dir to a directory outside the spool.",
        )
    for key, policy in (("on_success", config.on_success), ("on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            target = move_directory(policy)
            if key == "on_failure" and os.path.realpath(target) == base:
                continue
            if _is_within(target, base):
                raise SpoolError(
                    f"{key}: {target} lies in the spool {config.base_dir}; what is moved there would be shipped again.",
                    hint="Name a directory outside the spool.",
                )
    if config.claim_dir is not None and _is_within(config.claim_dir, base):
        raise SpoolError(
            f"claim_dir {config.claim_dir} lies in the spool {config.base_dir}.", hint="Put it beside the spool."
        )
    if isinstance(config.destination, LocalDestination):
        target = config.destination.path
        if _is_within(target, base) or _is_within(base, os.path.realpath(target)):
            raise SpoolError(
                f"The destination {target} and the spool {config.base_dir} contain one another.",
                hint="Keep them apart.",
            )


def _is_within(path: str, base: str) -> bool:
    real = os.path.realpath(path)
    return real == base or real.startswith(base.rstrip("/") + "/")
