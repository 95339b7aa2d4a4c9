"""The S3 object API: read, write, copy, delete and look at single objects from a Python program.

::

    import s3_uploader as s3

    connection = s3.S3Connection(access_key_id="...", secret_access_key="...", default_bucket="my-bucket")
    store = s3.RemoteStore(connection)
    assert store.write("example", "example-in-s3", headers={"x-amz-meta-state": "unprocessed"})

It keeps the promises of the package ``s3`` and adds more: no object is held in memory as a whole, everything written
or read is verified, and a download gets its name only when it is complete. Many threads may share one store.
"""

from __future__ import annotations

from s3_uploader.remote_store.connection import S3Connection
from s3_uploader.remote_store.errors import (
    ObjectChanged,
    ObjectExists,
    ObjectNotFound,
    RemoteConnectionError,
    RemoteStoreError,
    StorageError,
)
from s3_uploader.remote_store.names import S3Name
from s3_uploader.remote_store.objects import ObjectInfo
from s3_uploader.remote_store.store import RemoteStore

__all__ = [
    "ObjectChanged",
    "ObjectExists",
    "ObjectInfo",
    "ObjectNotFound",
    "RemoteConnectionError",
    "RemoteStore",
    "RemoteStoreError",
    "S3Connection",
    "S3Name",
    "StorageError",
]
