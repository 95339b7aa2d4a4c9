"""What lies in a spool beside good files: odd names, links, devices, what may not be read. Each costs only itself."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.site import Finished, Site, contents, without_privileges
from tests.servers.fault_server import FaultServer

HOUR = "bedroom/2020/11/29/20"
GOOD = f"{HOUR}/59-good.dat"

ODD_NAMES = {
    "spaces": b"01-a name  with spaces .dat",
    "quotes": b'02-it\'s "quoted" `so`.dat',
    "percent": b"03-100%25%2F%zz+plus.dat",
    "newline": b"04-two\nlines\r.dat",
    "escapes": b"05-\x1b[31mred\x1b]0;title\x07.dat",
    "unicode": "06-größe-温度-🌡-e\u0301.dat".encode(),
    "xml": b"07-<a&b>]]>;?#=&x=1.dat",
    "leading": b"08--rf *.dat",
    "backslash": b"09-a\\b\\n.dat",
    "direction": "10-\u202efdp.dat".encode(),
    "tilde": b"11-~$HOME,:@!(){}[]|^.dat",
}


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """A file or directory with other permissions for a while."""
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@pytest.fixture
def shipped(site: Site) -> Callable[..., tuple[Finished, Path]]:
    """Run with a good file among whatever the test has put there; that one must be shipped."""
    archive = site.ship_to_directory()
    good = site.file(GOOD, b"good")

    def run(**options: object) -> tuple[Finished, Path]:
        finished = site.run(**options)  # type: ignore[arg-type]
        assert "Traceback" not in finished.stderr
        assert (archive / GOOD).read_bytes() == b"good", finished.stderr
        assert not good.exists()
        assert finished.log is not None
        return finished, archive

    return run


@pytest.mark.rotated("name")
@pytest.mark.parametrize("name", ODD_NAMES.values(), ids=ODD_NAMES)
def test_an_odd_name_reaches_s3_byte_for_byte(site: Site, fault_server: FaultServer, name: bytes) -> None:
    """A name becomes exactly this key, whatever is in it, and the line about it is one line without an escape."""
    site.ship_to(fault_server)
    path = HOUR.encode() + b"/" + name
    site.file(path, b"content")
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert fault_server.objects() == {path.decode(): b"content"}
    assert site.left() == {}
    assert len(finished.log) == 2
    assert finished.stderr.replace("\n", "").isprintable()


def test_odd_names_reach_s3_byte_for_byte(site: Site, fault_server: FaultServer) -> None:
    """All of them in one run: each becomes exactly its key, and has a line of its own without an escape."""
    site.ship_to(fault_server)
    keys = [f"{HOUR}/{name.decode()}" for name in ODD_NAMES.values()]
    for key in keys:
        site.file(key, key.encode())
    finished = site.run()
    assert finished.code == 0, finished.stderr
    assert fault_server.objects() == {key: key.encode() for key in keys}
    assert site.left() == {}
    assert len(finished.log) == len(keys) + 1
    assert finished.stderr.replace("\n", "").isprintable()


def test_a_conflict_of_a_name_that_is_no_text(site: Site) -> None:
    """It costs that file alone, and every command can tell of it."""
    site.settings["layout"] = "tree"
    archive = site.ship_to_directory()
    name = b"12-\xff\xfe.dat"
    bad = site.file(name, b"mine")
    (archive / os.fsdecode(name)).write_bytes(b"another's")
    site.file("good.dat", b"good")
    finished = site.run()
    assert finished.code == 1
    assert [r"12-\xff\xfe.dat" in sentence for sentence in finished.sentences("WARNING")] == [True]
    assert bad.read_bytes() == b"mine"
    assert (archive / "good.dat").read_bytes() == b"good"
    assert (archive / os.fsdecode(name)).read_bytes() == b"another's"
    (failing,) = json.loads(site.run("status", "--json").stdout)["failing"]
    assert os.fsencode(failing["path"]) == name
    for words in (("status", "--details"), ("history", "--format", "json"), ("check", "--json"), ("forget", "--all")):
        told = site.run(*words)
        assert "Traceback" not in told.stderr, words


def test_odd_names_reach_a_directory(site: Site) -> None:
    """The same names, and one that is no text at all, arrive in a directory as they are."""
    archive = site.ship_to_directory()
    names = [*ODD_NAMES.values(), b"12-\xff\xfe.dat"]
    for name in names:
        site.file(HOUR.encode() + b"/" + name, name)
    finished = site.run()
    assert finished.code == 0, finished.stderr
    arrived = os.fsencode(archive / HOUR)
    assert {name: Path(os.fsdecode(arrived + b"/" + name)).read_bytes() for name in os.listdir(arrived)} == {
        name: name for name in names
    }


def test_undecodable_names_are_kept_and_reported(site: Site, fault_server: FaultServer) -> None:
    """A name that is no UTF-8 cannot be a key of S3: the file stays, the run says so and ships the others."""
    site.ship_to(fault_server)
    bad = site.file(HOUR.encode() + b"/12-\xff\xfe.dat", b"bad")
    site.file(GOOD, b"good")
    finished = site.run()
    assert finished.code == 1
    assert bad.read_bytes() == b"bad"
    assert fault_server.objects() == {GOOD: b"good"}
    assert [r"12-\xff\xfe.dat" in sentence for sentence in finished.sentences("WARNING")] == [True]


def test_a_key_over_1024_bytes(site: Site, fault_server: FaultServer) -> None:
    """A key of 1,024 bytes is shipped; one byte more is refused here, with the limit, and costs only itself."""
    site.ship_to(fault_server)
    site.file(GOOD, b"good")
    site.settings["key_prefix"] = "p" * (1024 - len(GOOD))
    assert site.run().code == 0
    assert [len(key) for key in fault_server.objects()] == [1024]
    kept = site.file(GOOD.replace("good", "very-good"))
    fault_server.forget_requests()
    finished = site.run()
    assert finished.code == 1
    assert kept.exists()
    (warning,) = finished.sentences("WARNING")
    assert str(kept) in warning
    assert "1,024" in warning or "1024" in warning
    assert not fault_server.requests_of("PutObject")


def test_links_are_not_followed(site: Site, shipped: Callable[..., tuple[Finished, Path]]) -> None:
    """Links to files and to directories, within the spool and out of it, are left, and nothing behind them is read."""
    outside = site.place / "outside"
    outside.mkdir()
    (outside / "46-topic.dat").write_bytes(b"secret")
    links = {
        f"{HOUR}/46-topic.dat": outside / "46-topic.dat",
        f"{HOUR}/47-topic.dat": Path("59-good.dat"),
        f"{HOUR}/48-topic.dat": Path("nowhere"),
        "bedroom/2020/11/29/21": outside,
        "attic": site.spool / "bedroom",
        "bedroom/2019": Path("2020"),
    }
    for path, target in links.items():
        (site.spool / path).symlink_to(target)
    finished, archive = shipped()
    assert finished.code == 0
    assert all((site.spool / path).is_symlink() for path in links)
    assert (outside / "46-topic.dat").read_bytes() == b"secret"
    assert sorted(str(path.relative_to(archive)) for path in archive.rglob("*.dat")) == [GOOD]
    assert "not a regular file" in finished.sentences("INFO")[-1]


def test_hard_links_are_files(site: Site, shipped: Callable[..., tuple[Finished, Path]]) -> None:
    """A hard link is a file: it is shipped, its name is removed, and the data under the other name stays."""
    other = site.place / "other-name"
    os.link(site.file(f"{HOUR}/46-topic.dat", b"shared"), other)
    finished, archive = shipped()
    assert finished.code == 0
    assert (archive / HOUR / "46-topic.dat").read_bytes() == b"shared"
    assert other.read_bytes() == b"shared"
    assert not (site.spool / HOUR).exists()


def test_fifos_and_sockets_do_not_stop_a_run(site: Site, shipped: Callable[..., tuple[Finished, Path]]) -> None:
    """FIFOs and sockets under the names of files are left without waiting for anybody."""
    os.mkfifo(site.spool / HOUR / "46-topic.dat")
    os.mkfifo(site.spool / "bedroom" / "2021")
    # The path of a socket may have 108 bytes; a shorter way leads through a link.
    short = Path(f"/proc/self/fd/{(directory := os.open(site.spool / HOUR, os.O_RDONLY))}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "47-topic.dat"))
        os.close(directory)
        finished, _ = shipped(timeout=20)
    assert finished.code == 0
    assert "3 not a regular file" in finished.sentences("INFO")[-1]


def test_devices_are_not_opened(site: Site, shipped: Callable[..., tuple[Finished, Path]]) -> None:
    """A device under the name of a file is left."""
    device = site.spool / HOUR / "46-topic.dat"
    try:
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero never ends
    except PermissionError:
        pytest.skip("only root makes devices")
    finished, _ = shipped(timeout=20)
    assert finished.code == 0
    assert stat.S_ISCHR(device.lstat().st_mode)


def test_what_is_not_of_the_layout_stays(site: Site, shipped: Callable[..., tuple[Finished, Path]]) -> None:
    """Files beside the layout stay, are counted in the summary, and named with -v."""
    others = ["readme.txt", "bedroom/note.dat", "bedroom/20/11/29/20/46-topic.dat", f"{HOUR}/topic.dat", f"{HOUR}/x"]
    for path in others:
        site.file(path)
    finished, _ = shipped()
    assert finished.code == 0
    assert set(site.left()) == set(others)
    assert "left: 5 outside the layout" in finished.sentences("INFO")[-1]
    named = site.run("run", "-v").stderr
    assert all(f"{site.spool / path} was left: outside the layout" in named for path in others if "/20/11/" not in path)


def test_an_unreadable_file_and_an_unreadable_directory(
    site: Site, shipped: Callable[..., tuple[Finished, Path]]
) -> None:
    """What may not be read is named with its reason, exit code 1, and everything else is shipped."""
    file = site.file(f"{HOUR}/46-topic.dat")
    directory = site.file("attic/2020/11/29/20/46-topic.dat").parent
    with mode(file, 0), mode(directory, 0):
        finished, _ = shipped(prefix=without_privileges())
    assert finished.code == 1
    warnings = finished.sentences("WARNING")
    assert len(warnings) == 2
    for path in (file, directory):
        (line,) = [line for line in warnings if line.startswith(f"Could not read {path}: ")]
        assert "Permission denied" in line
    assert file.exists()
    assert finished.sentences("INFO")[-1].endswith("2 failed, kept for the next run.")


def test_a_directory_that_may_not_be_written(site: Site) -> None:
    """A file that could not be removed is named and not even sent; it is shipped when its directory may be written."""
    archive = site.ship_to_directory()
    stuck = site.file(f"{HOUR}/46-topic.dat", b"stuck")
    site.file("kitchen/2020/11/29/20/46-topic.dat", b"free")
    with mode(stuck.parent, 0o500):
        finished = site.run(prefix=without_privileges())
    assert finished.code == 1
    assert stuck.read_bytes() == b"stuck"
    (warning,) = finished.sentences("WARNING")
    assert warning.startswith(f"Could not remove {stuck}: this user may not write to its directory, ")
    assert "it is not uploaded" in warning
    assert list(site.left()) == [f"{HOUR}/46-topic.dat"]
    assert contents(archive) == {"kitchen/2020/11/29/20/46-topic.dat": b"free"}
    assert site.run(prefix=without_privileges()).code == 0
    assert site.left() == {}
    assert (archive / HOUR / "46-topic.dat").read_bytes() == b"stuck"


@pytest.mark.parametrize(
    ("path", "bits", "fact"),
    [
        (f"{HOUR}/46-topic.dat", 0o000, f"{HOUR}/46-topic.dat cannot be read: Permission denied."),
        ("bedroom/2020", 0o000, "bedroom/2020 cannot be read: Permission denied."),
        (HOUR, 0o500, f"{HOUR}/46-topic.dat cannot be removed, and would not be uploaded: this user may not write to"),
    ],
)
def test_check_names_what_a_run_could_not_ship(site: Site, path: str, bits: int, fact: str) -> None:
    """``check`` promises no files that this user may not read or remove, nor says that there are none."""
    site.ship_to_directory()
    site.file(f"{HOUR}/46-topic.dat")
    assert "WARNING" not in site.run("check", prefix=without_privileges()).stdout
    with mode(site.spool / path, bits):
        finished = site.run("check", prefix=without_privileges())
        assert site.run(prefix=without_privileges()).code == 1
    assert f"WARNING  files: {fact}" in finished.stdout
    assert "there is no file" not in finished.stdout
    assert finished.stdout.endswith("Ready, with the warnings above.\n")


def test_many_unreadable_directories_are_told_in_a_few_lines(
    site: Site, shipped: Callable[..., tuple[Finished, Path]]
) -> None:
    """Three hundred directories that may not be read give ten lines and a number, not three hundred lines."""
    for number in range(300):
        directory = site.spool / f"room-{number}"
        directory.mkdir()
        directory.chmod(0)
    finished, _ = shipped(prefix=without_privileges())
    assert finished.code == 1
    assert len(finished.sentences("WARNING")) == 11
    assert finished.sentences("WARNING")[-1] == "Could not read 290 entries more. Use -v to name them all."


def test_empty_files_are_shipped(site: Site, fault_server: FaultServer) -> None:
    """A file of no bytes becomes an object of no bytes."""
    site.ship_to(fault_server)
    site.file(GOOD, b"")
    assert site.run().code == 0
    assert fault_server.objects() == {GOOD: b""}
    assert site.left() == {}


def test_fresh_files_are_left_and_explained(site: Site) -> None:
    """A file that was written just now stays; -v says why, and the exit code is 0."""
    site.ship_to_directory()
    fresh = site.file(GOOD, age=0)
    finished = site.run("run", "-v")
    assert finished.code == 0
    assert fresh.exists()
    assert any(
        f"{fresh} was left: fresh (written " in sentence and "less than 10 s" in sentence
        for sentence in finished.sentences("DEBUG")
    )


def test_a_time_to_come_strands_no_file(site: Site) -> None:
    """A path or a modification time of years to come, from a wrong clock, does not keep a file from being shipped."""
    archive = site.ship_to_directory()
    site.file("bedroom/2199/01/01/00/00-topic.dat")
    site.file("bedroom/2020/01/01/00/00-topic.dat", age=-40 * 86400)
    assert site.run().code == 0
    assert site.left() == {}
    assert len(list(archive.rglob("*.dat"))) == 2
