"""A plain loop over obstore, whose work is done in Rust. ``obstore_loop.py DIRECTORY BUCKET AGE``.

Nothing in it is careful: a file that changes while it is uploaded is lost.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

_THREADS = 32


def main() -> int:
    """Upload every file that is older than AGE seconds, and remove it."""
    base, bucket, age = sys.argv[1], sys.argv[2], float(sys.argv[3])
    until = time.time() - age
    files = [os.path.join(directory, name) for directory, _, names in os.walk(base) for name in names]
    files = [path for path in files if not age or os.stat(path).st_mtime <= until]
    if not files:
        return 0

    obstore: Any = importlib.import_module("obstore")
    stores: Any = importlib.import_module("obstore.store")
    url = os.environ["AWS_ENDPOINT_URL"]
    store = stores.S3Store(bucket, endpoint=url, client_options={"allow_http": url.startswith("http:")})

    def ship(path: str) -> None:
        obstore.put(store, os.path.relpath(path, base), Path(path))
        os.remove(path)

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(ship, files):
            pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
