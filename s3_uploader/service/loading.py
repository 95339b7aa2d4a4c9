"""Loads the program completely, for a process that may still run when another version is installed over it.

Modules are otherwise imported when they are first needed. After an upgrade those would be of the new version and not
fit the others, and each pass would fail until somebody starts the process anew.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pkgutil
from collections.abc import Iterator

from s3_uploader.config.destinations import FtpDestination, LocalDestination, S3Destination, SftpDestination
from s3_uploader.config.schema import Config
from s3_uploader.core.installation import was_replaced

REPLACED = (
    "Another version of s3_uploader has been installed. This process continues with the one that it has loaded. "
    "Restart it to use the new one."
)
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_FOLDERS = ("config", "core", "health", "ledger", "monitoring", "run", "service", "spool", "stores")
_STORES: dict[type, tuple[str, ...]] = {
    S3Destination: ("s3",),
    FtpDestination: ("file_servers", "ftp"),
    SftpDestination: ("file_servers", "sftp"),
    LocalDestination: ("local",),
}
_NOT_IN_A_PASS = ("s3_uploader.config.older", "s3_uploader.monitoring.progress")
_BOTO3 = "s3_uploader.stores.s3.engines.bo"
"""How the names of the modules begin that load boto3, which needs more memory than everything else."""


def load_program(config: Config) -> None:
    """Import what a pass of this configuration may need, unless an upgrade came first."""
    if was_replaced():
        return
    wants_boto3 = isinstance(config.destination, S3Destination) and config.destination.engine == "boto3"
    for name in _modules(_STORES[type(config.destination)]):
        if wants_boto3 or not name.startswith(_BOTO3):
            # If a library is missing, the pass that needs it says so.
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def _modules(stores: tuple[str, ...]) -> Iterator[str]:
    others = {each for every in _STORES.values() for each in every}.difference(stores)
    left_out = (*_NOT_IN_A_PASS, *(f"s3_uploader.stores.{each}." for each in others))
    for folder in _FOLDERS:
        for module in pkgutil.walk_packages([os.path.join(_PACKAGE, folder)], f"s3_uploader.{folder}."):
            if not module.name.startswith(left_out):
                yield module.name
