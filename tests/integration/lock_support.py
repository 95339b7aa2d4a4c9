"""A run that is killed between the creation of the remote lock file and the arrival of its line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

_PROGRAM = """
import json, os, signal, sys
from s3_uploader.stores.ftp.session import Session
from s3_uploader.stores.ftp.store import FtpStore

store_file = Session.store

def killed():
    os.kill(os.getpid(), signal.SIGKILL)
    yield b""

def store(session, path, chunks, **options):
    store_file(session, path, killed() if options else chunks, **options)

Session.store = store
FtpStore(**json.loads(sys.argv[1])).open()
"""


def kill_while_locking(**options: Any) -> None:
    """Open an FTP store in another process, which is killed after ``APPE``."""
    ended = subprocess.run([sys.executable, "-c", _PROGRAM, json.dumps(options)], check=False)
    assert ended.returncode == -signal.SIGKILL
