"""Programs and services that give credentials: whatever they do, they are bounded."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from s3_uploader.core import procfs
from s3_uploader.stores.s3 import helpers
from s3_uploader.stores.s3.helpers import BoundedProcess
from tests.integration.s3_support import eventually


def program(code: str) -> list[str]:
    """A helper."""
    return [sys.executable, "-c", code]


def test_a_helper_s_output_is_read() -> None:
    """Both outputs and the exit code are what botocore expects of a process."""
    process = BoundedProcess(program("import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"))
    assert process.communicate() == (b"out\n", b"err\n")
    assert process.returncode == 3


def test_a_complaint_in_another_encoding() -> None:
    """What a helper complains about is decoded by botocore, so an umlaut in Latin-1 must not hide it."""
    process = BoundedProcess(["/bin/sh", "-c", r"printf 'ung\374ltig' >&2; exit 1"])
    assert process.communicate() == (b"", rb"ung\xfcltig")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_helper_that_never_stops_printing(stream: str) -> None:
    """Output without an end is given up after some hundred kilobytes, and the helper is ended."""
    process = BoundedProcess(program(f"import sys\nwhile True: sys.{stream}.write('x' * 65536)"))
    with pytest.raises(OSError, match="printed more than 256 KiB"):
        process.communicate()
    assert process._process.poll() is not None
    assert not helpers._RUNNING


@pytest.mark.parametrize(
    "code", ["import time; time.sleep(60)", "import os, time; os.close(1); os.close(2); time.sleep(60)"]
)
def test_a_helper_that_hangs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not end is ended, whether its output is open or not."""
    monkeypatch.setattr(helpers, "HELPER_SECONDS", 0.5)
    process = BoundedProcess(program(code))
    with pytest.raises(OSError, match="did not end"):
        process.communicate()
    assert process._process.poll() is not None


def test_a_helper_that_leaves_something_running() -> None:
    """When it has ended what it printed counts, though a process that it started holds its output open, and goes on."""
    process = BoundedProcess(
        program("import subprocess; print(subprocess.Popen(['/bin/sleep', '60']).pid, flush=True)")
    )
    began = time.monotonic()
    printed, _ = process.communicate()
    assert time.monotonic() - began < 20
    assert process.returncode == 0
    assert procfs.is_alive(int(printed))
    os.kill(int(printed), signal.SIGKILL)


def test_a_helper_that_hangs_in_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a helper waits for ends with it."""
    monkeypatch.setattr(helpers, "HELPER_SECONDS", 3.0)
    note = tmp_path / "pid"
    process = BoundedProcess(["/bin/sh", "-c", f"sh -c 'echo $$ > {note}; sleep 60; :'; :"])
    with pytest.raises(OSError, match="did not end"):
        process.communicate()
    shell = int(note.read_text())
    assert eventually(lambda: not procfs.is_alive(shell) or procfs.is_zombie(shell))
    assert procfs.descendants_of(shell) == []
    assert process._process.poll() is not None


def test_everything_that_a_session_asks_is_bounded() -> None:
    """Programs and metadata services alike, also those that a role's source profile names."""
    from botocore.session import Session as RealSession

    from s3_uploader.stores.s3.engines.bounded import _pool_classes

    session = RealSession()
    helpers._bound_helpers(session)
    providers = {provider.METHOD: provider for provider in session.get_component("credential_provider").providers}
    assert providers["custom-process"]._popen is BoundedProcess
    for name, service in (("iam-role", "_role_fetcher"), ("container-role", "_fetcher")):
        classes = getattr(providers[name], service)._session._pool_classes_by_scheme
        assert classes == _pool_classes()
    builder = providers["assume-role"]._profile_provider_builder
    assert builder._create_process_provider("other")._popen is BoundedProcess
    client = session.create_client("sts", region_name="us-east-1", aws_access_key_id="A", aws_secret_access_key="B")
    endpoint = client._endpoint  # type: ignore[attr-defined]
    assert endpoint.http_session._pool_classes_by_scheme == _pool_classes()
