"""A plain loop over a library: the program that one would write without this one.

``plain_loop.py LIBRARY DIRECTORY BUCKET AGE``. Nothing in it is careful: a file that changes while it is uploaded is
lost.
"""

from __future__ import annotations

import http.client
import importlib
import os
import re
import sys
import threading
import time
import urllib.parse
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


def _sendfile(bucket: str) -> tuple[Callable[[str, str], None], int]:
    """Nothing but the kernel sends parts of 16 MiB: no digest, no signature, no proof.

    The server's own work and the way of the bytes to it remain. Nobody who does more can be faster.
    """
    server = os.environ["AWS_ENDPOINT_URL"].partition("://")[2]
    of_thread = threading.local()
    pool = ThreadPoolExecutor(4)

    def ask(method: str, target: str, body: bytes = b"", *, path: str = "", first: int = 0, size: int = 0) -> bytes:
        if not hasattr(of_thread, "connection"):
            of_thread.connection = http.client.HTTPConnection(server)
        connection: http.client.HTTPConnection = of_thread.connection
        connection.putrequest(method, target)
        connection.putheader("Content-Length", str(size or len(body)))
        connection.endheaders(body or None)
        if size:
            with open(path, "rb") as file:
                connection.sock.sendfile(file, first, size)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise OSError(f"{method} {target}: {answer.status}")
        return text or answer.headers["ETag"].encode()

    def upload(path: str, key: str) -> None:
        target = f"/{bucket}/{urllib.parse.quote(key)}"
        found = re.search(b"<UploadId>([^<]+)<", ask("POST", f"{target}?uploads="))
        query = f"uploadId={found[1].decode()}" if found else ""
        length, step = os.path.getsize(path), 16 * 2**20

        def send(first: int) -> bytes:
            number = first // step + 1
            size = min(step, length - first)
            etag = ask("PUT", f"{target}?partNumber={number}&{query}", path=path, first=first, size=size)
            return b"<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>" % (number, etag)

        parts = b"".join(pool.map(send, range(0, length, step)))
        body = b"<CompleteMultipartUpload>%s</CompleteMultipartUpload>" % parts
        ask("POST", f"{target}?{query}", body)

    return upload, 2


_LIBRARIES = {"boto3": _boto3, "obstore": _obstore, "sendfile": _sendfile}


if __name__ == "__main__":
    sys.exit(main())
