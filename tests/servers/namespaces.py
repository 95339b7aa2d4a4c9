"""Whether this machine lets a test have namespaces of its own; containers without privileges do not."""

from __future__ import annotations

import functools
import os
import subprocess

import pytest


@functools.lru_cache(maxsize=1)
def problem() -> str:
    """Why a process here cannot have mount namespaces of its own; empty if it can."""
    if os.geteuid() != 0:
        return "only root may have mount namespaces"
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--cgroup", "mount", "-t", "tmpfs", "tmpfs", "/run"],
        capture_output=True,
        text=True,
        check=False,
    )
    return tried.stderr.strip() if tried.returncode else ""


def need_namespaces() -> None:
    """Skip the test where there are none, in CI too: nothing that could be installed would change that."""
    if reason := problem():
        pytest.skip(f"no mount namespaces here: {reason}")
