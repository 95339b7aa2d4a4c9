"""A plain loop over boto3: the program that one would write without this one. ``boto3_loop.py DIRECTORY BUCKET AGE``.

Nothing in it is careful: a file that changes while it is uploaded is lost.
"""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

_THREADS = 8


def main() -> int:
    """Upload every file that is older than AGE seconds, and remove it."""
    base, bucket, age = sys.argv[1], sys.argv[2], float(sys.argv[3])
    until = time.time() - age
    files = [os.path.join(directory, name) for directory, _, names in os.walk(base) for name in names]
    files = [path for path in files if not age or os.stat(path).st_mtime <= until]
    if not files:
        return 0

    import boto3

    client = boto3.client("s3")

    def ship(path: str) -> None:
        client.upload_file(path, bucket, os.path.relpath(path, base))
        os.remove(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(ship, files):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
