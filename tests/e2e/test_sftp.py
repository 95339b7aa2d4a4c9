"""SFTP as people use it: the installed command against OpenSSH's server, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.site import COMMAND, Site, contents, stop
from tests.servers.openssh import OpensshServer
from tests.servers.scripted_sftp import ScriptedSftpServer, hang

FILES = {"f1": b"the only copy 1", "deep/er/f2": b"the only copy 2", "f3": b"3" * 300_000, "a name": b"odd"}


@pytest.fixture
def server(openssh_servers: Callable[[str], OpensshServer], request: pytest.FixtureRequest) -> OpensshServer:
    """OpenSSH's server, that others use too."""
    return openssh_servers("internal")


@pytest.fixture
def archive(server: OpensshServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of this test on the server."""
    directory = server.root / f"e2e-{os.urandom(4).hex()}"
    directory.mkdir()
    return directory


@pytest.fixture
def full(site: Site, server: OpensshServer, archive: Path) -> Site:
    """A spool with some files, to be shipped there."""
    site.settings["layout"] = "tree"
    site.settings["destination"] = {"type": "sftp", **server.settings(), "path": str(archive)}
    for path, content in FILES.items():
        site.file(path, content)
    return site


def destination(site: Site) -> dict[str, Any]:
    """The destination, to be changed."""
    found = site.settings["destination"]
    assert isinstance(found, dict)
    return found


def test_files_are_shipped(full: Site, archive: Path) -> None:
    """All files arrive and the spool is empty; `history`, `check` and `audit` know of it."""
    finished = full.run()
    assert finished.code == 0, finished.stderr
    assert contents(archive) == FILES
    assert full.left() == {}, finished.stderr
    assert len(full.history()) == len(FILES)
    checked = full.run("check")
    assert checked.code == 0, checked.stdout
    assert "Ready." in checked.stdout
    assert "its host key is trusted: ssh-ed25519 SHA256:" in checked.stdout
    assert contents(archive) == FILES
    assert full.run("audit", "--deep").code == 0
    (archive / "f1").write_bytes(b"the only copy 2")
    assert full.run("audit", "--deep").code == 1
    assert full.run().code == 0


@pytest.mark.exhaustive  # integration/test_sftp_real_servers.py; test_commands.py for what a run says of a conflict
def test_a_conflict(full: Site, archive: Path) -> None:
    """Other content under a name keeps the file, and the exit code says so; the others go."""
    (archive / "f1").write_bytes(b"somebody's")
    finished = full.run()
    assert finished.code == 1
    assert "exists already with other content" in finished.stderr
    assert full.left() == {"f1": FILES["f1"]}
    assert contents(archive) == {**FILES, "f1": b"somebody's"}


def test_an_unknown_host_key(full: Site, archive: Path) -> None:
    """Nobody is trusted at first sight: exit code 3, the line that would trust it, and `status` knows why."""
    del destination(full)["known_hosts_file"]
    finished = full.run()
    assert finished.code == 3
    assert "is not known: ssh-ed25519 SHA256:" in finished.stderr
    assert contents(archive) == {}
    assert len(full.left()) == len(FILES)
    assert "host key" in json.dumps(full.status())
    line = finished.stderr.partition("~/.ssh/known_hosts: ")[2].splitlines()[0]
    (full.home / ".ssh").mkdir(mode=0o700)
    (full.home / ".ssh" / "known_hosts").write_text(line + "\n")
    assert full.run().code == 0
    assert contents(archive) == FILES


UNUSABLE = [
    ({"private_key_file": "/nowhere/key"}, "The private key /nowhere/key cannot be used: no such file"),
    # integration/test_sftp_real_servers.py and test_sftp_known_hosts.py promise what is said of these.
    *(
        pytest.param(change, says, marks=pytest.mark.exhaustive)
        for change, says in (
            ({"path": "/nowhere"}, "cannot be entered"),
            ({"user": "nobody-at-all"}, "refuses the user nobody-at-all"),
            ({"known_hosts_file": "/nowhere/known"}, "/nowhere/known cannot be read"),
            ({"port": 1}, "Cannot connect to the SFTP server 127.0.0.1:1: connection refused"),
        )
    ),
]


@pytest.mark.parametrize(("change", "says"), UNUSABLE)
def test_a_destination_that_cannot_be_used(full: Site, change: dict[str, Any], says: str) -> None:
    """Each is one sentence and exit code 3; nothing has gone."""
    destination(full).update(change)
    finished = full.run()
    assert finished.code == 3, finished.stderr
    assert says in finished.stderr
    assert "Traceback" not in finished.stderr
    assert len(full.left()) == len(FILES)


@pytest.mark.parametrize(("change", "says"), UNUSABLE)
def test_the_check_of_a_destination_that_cannot_be_used(full: Site, change: dict[str, Any], says: str) -> None:
    """The check says the same as a run, with the same exit code."""
    destination(full).update(change)
    checked = full.run("check")
    assert checked.code == 3
    assert says in checked.stdout + checked.stderr


def test_without_the_library(full: Site, tmp_path: Path) -> None:
    """Without the extra the sentence says what to install, as with other extras."""
    (tmp_path / "asyncssh.py").write_text("raise ImportError('No module named asyncssh')\n")
    for arguments in ((), ("check",)):
        finished = full.run(*arguments, environment={"PYTHONPATH": str(tmp_path)})
        assert finished.code == 2, finished.stderr
        assert "pip install 's3-spool-uploader[sftp]'" in finished.stderr + finished.stdout
        assert "Traceback" not in finished.stderr
    assert len(full.left()) == len(FILES)


@pytest.mark.rotated("setting", "prefix")
@pytest.mark.parametrize("setting", ["delete", "keep", "gzip", "overwrite"])
@pytest.mark.parametrize("prefix", [False, True])
def test_the_spool_itself(full: Site, setting: str, prefix: bool, effort: Callable[..., int]) -> None:
    """A server over the spool has every file already, because it is the file: nothing is removed, and it is told."""
    destination(full)["path"] = str(full.place if prefix else full.spool)
    if setting == "overwrite":
        destination(full)["on_conflict"] = "overwrite"
    full.settings.update({"keep": {"on_success": "keep"}, "gzip": {"compress": "gzip"}}.get(setting, {}))
    full.settings["key_prefix"] = f"{full.spool.name}/" if prefix else ""
    checked = full.run("check")
    assert checked.code in (2, 3), checked.stdout
    assert "Not ready" in checked.stdout
    for _ in range(effort(1, 2)):
        finished = full.run()
        assert finished.code == 3, finished.stderr
        assert "The destination leads back to the spool" in finished.stderr
        left = full.left()
        assert {path: left.get(path) for path in FILES} == FILES


def test_killed_in_the_middle(full: Site, archive: Path, effort: Callable[..., int]) -> None:
    """A run that is killed at any moment loses nothing, and the next one finishes the work and leaves no parts."""
    destination(full)["lock_file"] = "write"
    for number in range(12):
        full.file(f"more/{number}", b"%d" % number * 40_000)
    expected = {**FILES, **{f"more/{number}": b"%d" % number * 40_000 for number in range(12)}}
    for step in range(effort(2, 20)):
        before = contents(archive)
        running = full.start()
        # On any machine in the middle: after the first sign of it at the server, if anything is left to do.
        while running.poll() is None and contents(archive) == before:
            time.sleep(0.005)
        time.sleep(0.01 * (step % 12))
        running.kill()
        found = contents(archive)
        left = full.left()
        for path, content in expected.items():
            assert left.get(path) == content or found.get(path) == content, path
    # What lies beside the lock goes as parts do: with the first file of a run that is sent to the same directory.
    full.file("last", b"last")
    finished = full.run()
    assert finished.code == 0, finished.stderr
    assert full.left() == {}, finished.stderr
    assert contents(archive) == {**expected, "last": b"last"}


def test_a_signal_while_the_server_hangs(site: Site, scripted_sftp: ScriptedSftpServer) -> None:
    """When the time to drain is over, SIGTERM ends a run though the server says nothing any more; the file stays."""
    site.settings.update(layout="tree", drain_seconds=0.2)
    site.settings["destination"] = {"type": "sftp", **scripted_sftp.settings()}
    site.file("one", b"1" * 100_000)
    scripted_sftp.always("write", hang)
    running = site.start()
    running.wait_until(lambda: "write" in scripted_sftp.requests, "the server was written to")
    begun = time.monotonic()
    running.send(signal.SIGTERM)
    finished = running.wait(20)
    assert finished.code == 143
    assert time.monotonic() - begun < 8
    assert "Traceback" not in finished.stderr
    assert site.left() == {"one": b"1" * 100_000}


def test_a_server_that_greets_byte_by_byte(site: Site, scripted_sftp: ScriptedSftpServer) -> None:
    """A login that goes on for ever is over after its time, and the time of a run is kept."""
    site.settings["layout"] = "tree"
    with socket.create_server(("127.0.0.1", 0)) as endless:
        settings = {**scripted_sftp.settings(), "port": endless.getsockname()[1], "connect_timeout_seconds": 1}
        site.settings["destination"] = {"type": "sftp", **settings}
        site.file("one")
        running = site.start()
        endless.settimeout(20)
        connection, _ = endless.accept()
        with connection:
            connection.settimeout(1)
            ends_at = time.monotonic() + 20
            while running.poll() is None and time.monotonic() < ends_at:
                try:
                    connection.sendall(b"x\r\n")
                except OSError:
                    break
                time.sleep(0.1)
            finished = running.wait(20)
    assert finished.code == 3
    assert "Cannot connect to the SFTP server" in finished.stderr
    assert site.left() != {}


def test_a_password_stands_nowhere(site: Site, scripted_sftp: ScriptedSftpServer) -> None:
    """A password comes from the environment, and is in no output, log, ledger or lock file."""
    site.settings["layout"] = "tree"
    settings = scripted_sftp.settings()
    del settings["private_key_file"]
    site.settings["destination"] = {"type": "sftp", **settings, "lock_file": "write"}
    site.file("one", b"1")
    finished = site.run("run", "-v", environment={"S3_UPLOADER_SFTP_PASSWORD": scripted_sftp.password})
    assert finished.code == 0, finished.stderr
    assert scripted_sftp.files() == {"one": b"1"}
    scripted_sftp.password = "another HUSH"
    site.file("two", b"2")
    refused = site.run("run", "-v", environment={"S3_UPLOADER_SFTP_PASSWORD": "wrong HUSH"})
    assert refused.code == 3
    everything = finished.stderr + finished.stdout + refused.stderr + refused.stdout
    for file in site.place.rglob("*"):
        if file.is_file() and not file.is_relative_to(site.spool):
            everything += file.read_bytes().decode("latin-1")
    assert "HUSH" not in everything
    assert "let me in" not in everything


def test_watch(full: Site, archive: Path) -> None:
    """`watch` ships what is there and what comes, over the connections that it has."""
    running = full.start("watch", "--interval", "1")
    running.wait_until(lambda: contents(archive) == FILES, "the first files were shipped")
    full.file("late", b"late")
    running.wait_until(lambda: (archive / "late").exists(), "the late file was shipped")
    stop(running)
    assert {name for name in os.listdir(archive) if name.startswith(".")} == set()


def test_init_takes_one(site: Site) -> None:
    """`init` writes the destination for an address as people write one, and refuses a password in it."""
    path = site.place / "made.json"
    words = [str(COMMAND), "init", str(path), "--spool", str(site.spool), "--yes", "--to"]
    made = site.run(command=[*words, "sftp://me@host:2222/~/incoming"])
    assert made.code == 0, made.stderr
    shown = site.run(command=[str(COMMAND), "config", str(path)])
    assert '"sftp"' in path.read_text() or "sftp" in shown.stdout
    assert "incoming" in path.read_text()
    path.unlink()
    refused = site.run(command=[*words, "sftp://me:HUSH@host/x"])
    assert refused.code == 2
    assert "HUSH" not in refused.stderr + refused.stdout
    assert not path.exists()
