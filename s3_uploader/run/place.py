"""The place of a run: the open spool and its layout, where its state lies, and that nothing of ours is shipped."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from s3_uploader.config.destinations import LocalDestination
from s3_uploader.config.schema import Config, MoveTo
from s3_uploader.core.errors import SpoolError
from s3_uploader.core.text import names_are_utf8, shown_name
from s3_uploader.ledger import LEDGER_NAME
from s3_uploader.ledger.state_directory import ledger_path, own_state_directory
from s3_uploader.spool.layouts.base import Globs, Layout
from s3_uploader.spool.mounts import Directory, KnownMounts, patience, refuse_silent
from s3_uploader.spool.root import SpoolRoot

if TYPE_CHECKING:
    from s3_uploader.core.shares import Share
    from s3_uploader.spool.layouts.sharing import OwnFiles


_OWN_FILES = (
    "metrics_file",
    "password_file",
    "private_key_file",
    "known_hosts_file",
    "ca_file",
    "client_certificate_file",
)
"""Keys of the configuration and of destinations that name a file of this machine."""


class Place(msgspec.Struct, frozen=True):
    """An open spool and its state directory.

    :param state_dir: the state directory of a run; the state of the whole spool is in
        :attr:`common_state_dir`.
    """

    config: Config
    root: SpoolRoot
    layout: Layout
    state_dir: str

    @property
    def share(self) -> Share | None:
        """The share of the files that is shipped from here; ``None`` means all files."""
        if self.config.share is None:
            return None
        from s3_uploader.config.share import share_of

        return share_of(self.config)

    @property
    def common_state_dir(self) -> str:
        """The state directory of the spool, in which each share has a directory of its own."""
        return self.state_dir if self.share is None else os.path.dirname(self.state_dir)

    @property
    def ledger_path(self) -> str:
        """The path of the ledger."""
        return os.path.join(self.state_dir, LEDGER_NAME)


@contextmanager
def open_place(config: Config, *, environ: Mapping[str, str] = os.environ) -> Iterator[Place]:
    """Open the spool of a configuration and make sure that no file of this program would be shipped.

    :raises SpoolError: if the spool cannot be used.
    """
    root = SpoolRoot(config.base_dir)
    try:
        state_dir = own_state_directory(config, environ=environ)
        _refuse_overlap(config, root, state_dir)
        _refuse_other_bytes(config)
        yield Place(config, root, build_layout(config), state_dir)
    finally:
        root.close()


def build_globs(config: Config) -> Globs:
    """Which paths are considered at all."""
    return Globs(include=config.include, exclude=config.exclude)


def build_layout(config: Config, *, also: Sequence[Share] = ()) -> Layout:
    """The layout that the configuration names.

    :param also: shares whose files are seen beside those of the configuration's own.
    """
    globs = build_globs(config) if config.include or config.exclude else None
    own = _own_files(config, also)
    if config.layout == "tree":
        from s3_uploader.spool.layouts.tree import TreeLayout

        return TreeLayout(settle_seconds=config.settle_seconds, globs=globs, own=own)
    if config.layout == "queue":
        from s3_uploader.spool.layouts.queue import QueueLayout

        return QueueLayout(globs=globs, own=own)
    from s3_uploader.spool.layouts.dated import DatedLayout, epoch_function, period_function

    return DatedLayout(
        settle_seconds=config.settle_seconds,
        globs=globs,
        epoch_of=epoch_function(config.timezone),
        period_of=period_function(config.timezone),
        own=own,
    )


def _own_files(config: Config, also: Sequence[Share]) -> OwnFiles | None:
    if config.share is None:
        return None
    from s3_uploader.config.share import share_of

    share = share_of(config)
    if share is None:
        return None
    from s3_uploader.spool.layouts.sharing import OwnFiles

    return OwnFiles(share, *also, by_location=config.share_by == "location")


def move_directory(policy: MoveTo) -> str:
    """The directory of a ``move_to``, absolute; a relative one is taken from where the program was started."""
    return os.path.abspath(policy.move_to)


def directories_of(config: Config) -> list[Directory]:
    """The directories that must not be confused with empty mount points."""
    found = [Directory("base_dir", config.base_dir, config.must_be_mount)]
    if isinstance(config.destination, LocalDestination):
        own = config.destination.must_be_mount
        must_be_mount = config.must_be_mount if own is None else own
        found.append(Directory("The destination", config.destination.path, must_be_mount))
    # Set to true, it is meant for where the data lies and goes; what is moved aside may lie anywhere.
    aside = False if config.must_be_mount is False else None
    for policy in (config.on_success, config.on_failure):
        if isinstance(policy, MoveTo):
            found.append(Directory("move_to", move_directory(policy), aside, is_made=True))
    return found


def verify_mounts(config: Config, *, environ: Mapping[str, str] = os.environ, note: bool = False) -> None:
    """Make sure that the directories of a configuration are on the same file systems as before.

    :param note: remember the present file systems.
    :raises NotMounted: if one is not.
    """
    known = KnownMounts(os.path.dirname(ledger_path(config, environ=environ)))
    found = known.verify(directories_of(config))
    if note:
        known.note(found)


def verify_destination(config: Config, *, environ: Mapping[str, str] = os.environ) -> None:
    """Make sure that a local destination answers and is on the same file system as before. Needs no spool.

    :raises NotMounted: if not.
    """
    if isinstance(config.destination, LocalDestination):
        own = [each for each in directories_of(config) if each.path == config.destination.path]
        refuse_silent(own, seconds=patience(config.max_runtime_seconds))
        KnownMounts(os.path.dirname(ledger_path(config, environ=environ))).verify(own)


def _refuse_other_bytes(config: Config) -> None:
    """Make sure that the paths of a configuration have the same bytes in the encoding of an embedding program."""
    if not names_are_utf8() and not repr(config).isascii():
        raise SpoolError(
            "The configuration contains names that are not ASCII, and this program writes names in an encoding other "
            "than UTF-8.",
            hint="Start it with PYTHONUTF8=1 or under a UTF-8 locale.",
        )


def _refuse_overlap(config: Config, root: SpoolRoot, state_dir: str) -> None:
    base = os.path.realpath(config.base_dir)
    if _is_within(state_dir, base):
        raise SpoolError(
            f"The state directory {state_dir} lies in the spool {config.base_dir}.",
            hint="Set state_dir to a directory outside the spool.",
        )
    _refuse_files_beside_the_ledger(config, state_dir)
    for key, policy in (("on_success", config.on_success), ("on_failure", config.on_failure)):
        if isinstance(policy, MoveTo):
            target = move_directory(policy)
            if key == "on_failure" and os.path.realpath(target) == base:
                continue
            if _is_within(target, base) or _leads_into(target, root):
                raise SpoolError(
                    f"{key}: {target} lies in the spool {config.base_dir}; what is moved there would be shipped again.",
                    hint="Name a directory outside the spool.",
                )
            if config.claim_dir is not None and _is_within(target, os.path.realpath(config.claim_dir)):
                raise SpoolError(
                    f"{key}: {target} lies in claim_dir {config.claim_dir}, which is for files under way.",
                    hint="Name a directory outside claim_dir.",
                )
    if config.claim_dir is not None and (_is_within(config.claim_dir, base) or _leads_into(config.claim_dir, root)):
        raise SpoolError(
            f"claim_dir {config.claim_dir} lies in the spool {config.base_dir}.", hint="Put it beside the spool."
        )
    for key in _OWN_FILES:
        path = getattr(config, key, None) or getattr(config.destination, key, None)
        if path is not None:
            refuse_to_ship(config, key, path)
    if isinstance(config.destination, LocalDestination):
        target = config.destination.path
        if _is_within(target, base) or _is_within(base, os.path.realpath(target)):
            raise SpoolError(
                f"The destination {target} and the spool {config.base_dir} contain one another.",
                hint="Keep them apart.",
            )
        if config.claim_dir is not None and _is_within(target, os.path.realpath(config.claim_dir)):
            raise SpoolError(
                f"The destination {target} lies in claim_dir {config.claim_dir}, which is for files under way.",
                hint="Name a directory outside claim_dir.",
            )


def _refuse_files_beside_the_ledger(config: Config, state_dir: str) -> None:
    """Make sure that nothing is put into the state directory, where its name may be that of the ledger."""
    targets = {
        "The destination": config.destination.path if isinstance(config.destination, LocalDestination) else None,
        "claim_dir": config.claim_dir,
        "on_success": move_directory(config.on_success) if isinstance(config.on_success, MoveTo) else None,
        "on_failure": move_directory(config.on_failure) if isinstance(config.on_failure, MoveTo) else None,
    }
    for what, path in targets.items():
        if path is not None and _is_within(path, os.path.realpath(state_dir)):
            raise SpoolError(
                f"{what}: {path} lies in the state directory {state_dir}, which holds the ledger.",
                hint="Name a directory outside it.",
            )


def refuse_to_ship(config: Config, what: str, path: str) -> None:
    """Make sure that a file of this program is not taken for one of a producer.

    :raises SpoolError: if it is.
    """
    base, real = os.path.realpath(config.base_dir), os.path.realpath(path)
    if not _is_within(real, base):
        return
    from s3_uploader.spool.layouts.strangers import matches

    parts = os.path.relpath(real, base).split(os.sep)
    if matches(config.layout, parts) and build_globs(config).admits(tuple(parts[:-1]), parts[-1]):
        raise SpoolError(
            f"{what} {shown_name(path)} lies in the spool {config.base_dir}, and would be shipped like any other file.",
            hint="Put it outside the spool, or name it in exclude.",
        )


def _leads_into(path: str, root: SpoolRoot) -> bool:
    from s3_uploader.spool.echoes import leads_into  # most runs have no directory beside the spool

    return leads_into(path, root)


def _is_within(path: str, base: str) -> bool:
    real = os.path.realpath(path)
    return real == base or real.startswith(base.rstrip("/") + "/")
