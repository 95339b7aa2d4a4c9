"""Empties a spool directory into object storage without ever losing a byte.

The public interface. Everything is imported when it is first used, so that importing the package costs nothing:

* :func:`upload_once` runs one pass and returns a :class:`RunReport`;
* :func:`process` runs passes in the background of a program until it is told to stop;
* :class:`RemoteStore`, :class:`S3Connection` and :class:`S3Name` read, write, copy and delete objects;
* :mod:`s3_uploader.errors` are the errors.
"""

from __future__ import annotations

from s3_uploader._version import __version__

TYPE_CHECKING = False  # without an import: until the command line is at work, Ctrl-C is a traceback
if TYPE_CHECKING:
    from typing import Any

    from s3_uploader import errors
    from s3_uploader.core.errors import UploaderError
    from s3_uploader.core.model import Left, Proof, Receipt, RunEnd, RunReport
    from s3_uploader.remote_store import (
        ObjectChanged,
        ObjectExists,
        ObjectInfo,
        ObjectNotFound,
        RemoteConnectionError,
        RemoteStore,
        RemoteStoreError,
        S3Connection,
        S3Name,
        StorageError,
    )
    from s3_uploader.remote_store.aio import AsyncRemoteStore
    from s3_uploader.service.embedded import process, upload_once
    from s3_uploader.service.results import FileOutcome, FileResult

__all__ = [
    "AsyncRemoteStore",
    "FileOutcome",
    "FileResult",
    "Left",
    "ObjectChanged",
    "ObjectExists",
    "ObjectInfo",
    "ObjectNotFound",
    "Proof",
    "Receipt",
    "RemoteConnectionError",
    "RemoteStore",
    "RemoteStoreError",
    "RunEnd",
    "RunReport",
    "S3Connection",
    "S3Name",
    "StorageError",
    "UploaderError",
    "__version__",
    "errors",
    "process",
    "upload_once",
]

_HOMES = {
    "AsyncRemoteStore": "remote_store.aio",
    "FileOutcome": "service.results",
    "FileResult": "service.results",
    "Left": "core.model",
    "RunEnd": "core.model",
    "RemoteConnectionError": "remote_store",
    "ObjectNotFound": "remote_store",
    "ObjectInfo": "remote_store",
    "ObjectExists": "remote_store",
    "ObjectChanged": "remote_store",
    "RemoteStore": "remote_store",
    "RemoteStoreError": "remote_store",
    "Proof": "core.model",
    "Receipt": "core.model",
    "RunReport": "core.model",
    "S3Connection": "remote_store",
    "S3Name": "remote_store",
    "StorageError": "remote_store",
    "UploaderError": "core.errors",
    "process": "service.embedded",
    "upload_once": "service.embedded",
}


if not TYPE_CHECKING:  # a type checker would take every name for one of the package, misspelt ones too

    def __getattr__(name: str) -> Any:
        import importlib

        if name == "errors":
            return importlib.import_module("s3_uploader.errors")
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"s3_uploader.{home}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    # What is imported when it is first used is there for completion in editors and notebooks, too.
    return sorted({*globals(), *__all__})
