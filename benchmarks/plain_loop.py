"""A plain loop over a library: the program that one would write without this one.

``plain_loop.py LIBRARY DIRECTORY BUCKET AGE``. Nothing in it is careful: a file that changes while it is uploaded is
lost.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


def main() -> int:
    """Upload every file that is older than AGE seconds, and remove it."""
    library, base, bucket, age = sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])
    until = time.time() - age
    files = [os.path.join(directory, name) for directory, _, names in os.walk(base) for name in names]
    files = [path for path in files if not age or os.stat(path).st_mtime <= until]
    if not files:
        return 0
    upload, threads = _LIBRARIES[library](bucket)

    def ship(path: str) -> None:
        upload(path, os.path.relpath(path, base))
        os.remove(path)

    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(ship, files):
            pass
    return 0


def _boto3(bucket: str) -> tuple[Callable[[str, str], None], int]:
    import boto3

    client = boto3.client("s3")
    return lambda path, key: client.upload_file(path, bucket, key), 8


def _obstore(bucket: str) -> tuple[Callable[[str, str], None], int]:
    """Its work is done in Rust."""
    obstore: Any = importlib.import_module("obstore")
    stores: Any = importlib.import_module("obstore.store")
    url = os.environ["AWS_ENDPOINT_URL"]
    store = stores.S3Store(bucket, endpoint=url, client_options={"allow_http": url.startswith("http:")})
    return lambda path, key: obstore.put(store, key, Path(path)), 32


_LIBRARIES = {"boto3": _boto3, "obstore": _obstore}


if __name__ == "__main__":
    sys.exit(main())
