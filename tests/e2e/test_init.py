"""From nothing to the first file at its destination: ``init`` writes the configuration that works."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess

import pytest

from tests.e2e.site import COMMAND, Site


def test_four_commands_to_the_first_file(site: Site) -> None:
    """Of init, check, run and units each works with what the one before has left."""
    archive = site.place / "archive"
    archive.mkdir()
    site.file("sensors/one.csv")
    made = site.place / "made.json"

    def command(*words: str) -> int:
        return site.run(command=[str(COMMAND), *words]).code

    assert command("init", str(made), "--spool", str(site.spool), "--to", str(archive), "--yes") == 0
    assert command("check", str(made)) == 0
    assert command(str(made)) == 0
    assert (archive / "sensors/one.csv").exists()
    assert "// " in made.read_text()


def test_a_file_that_is_there_is_kept(site: Site) -> None:
    """Nothing is written over without --force."""
    site.write_config()
    before = site.config_file.read_text()
    words = ["init", str(site.config_file), "--spool", str(site.spool), "--to", "bucket", "--yes"]
    finished = site.run(command=[str(COMMAND), *words])
    assert (finished.code, site.config_file.read_text()) == (2, before)
    assert "exists already" in finished.stderr
    assert site.run(command=[str(COMMAND), *words, "--force"]).code == 0
    assert site.config_file.read_text() != before


def test_no_configuration_takes_the_place_of_what_is_no_file(site: Site) -> None:
    """With --force, a pipe or a device stays what it is; root would take /dev/null from the whole machine."""
    path = site.place / "x.json"
    os.mkfifo(path)
    words = ["init", str(path), "--spool", str(site.spool), "--to", "bucket", "--yes", "--force"]
    finished = site.run(command=[str(COMMAND), *words])
    assert (finished.code, path.is_fifo()) == (2, True)
    assert f"{path} is not a regular file, so no configuration takes its place." in finished.stderr


@pytest.mark.parametrize("name", ["base_dir", "jollyae"])
def test_what_needs_no_conversion(site: Site, name: str) -> None:
    """The file of S3 Uploader is read as it is, and so is any other of this program, whatever its paths contain."""
    source = site.place / "older.json"
    source.write_text(f'{{"base_dir": "/{name}", "s3_bucket": "bucket"}}')
    finished = site.run(command=[str(COMMAND), "init", "--from", str(source), str(site.place / "x.json")])
    assert finished.code == 2
    assert "is a configuration of this program already. Nothing has to be converted." in finished.stderr
    assert not (site.place / "x.json").exists()


def test_what_is_missing_is_named(site: Site) -> None:
    """Without a terminal nothing is asked."""
    finished = site.run(command=[str(COMMAND), "init", str(site.place / "x.json")])
    assert (finished.code, finished.stderr) == (2, "There is no spool. Name it with --spool DIRECTORY.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["--spool", "{spool}", "--to", "{spool}/out"],
            "The destination {spool}/out and the spool {spool} contain one",
        ),
        (
            ["--spool", "{spool}", "--to", "{place}"],
            "The destination {place} and the spool {spool} contain one another.",
        ),
        (["--spool", "{place}/link", "--to", "bucket"], "is a symbolic link. Give the directory itself: {spool}."),
        (["--spool", "/", "--to", "bucket"], "base_dir / is the root of the file system."),
        (["--spool", "/dev/null", "--to", "bucket"], "base_dir /dev/null is not a directory."),
        (["--spool", "{home}", "--to", "bucket"], " lies in the spool {home}."),
        (["--spool", "~no-such-user/x", "--to", "bucket"], "There is no home directory of ~no-such-user."),
        (["--spool", "{spool}", "--to", "~no-such-user"], "There is no home directory of ~no-such-user."),
        (["--spool", "{place}/\udcff", "--to", "bucket"], "\\xff has bytes that are not UTF-8, which a configuration"),
        (["--spool", "{spool}", "--to", "sftp://me@host/%ff"], "/\\xff has bytes that are not UTF-8, which a config"),
        (["--spool", "{spool}", "--to", "file://nas/x"], "file://nas/x is not a destination."),
        (
            ["--spool", "{spool}", "--to", "ftp://me:s3cr#t@host/x"],
            "The URL of the destination has a ?, a # or a control",
        ),
        (["--spool", "{spool}", "--to", "ftp://host:0/x"], "destination.port: must be a whole number of at least 1"),
        (["--spool", "{spool}", "--to", "/x", "--region", "x"], "--endpoint-url and --region are for a bucket."),
        (["--spool", "{spool}", "--to", "bucket", "--region", "eu west"], "The region 'eu west' is not a valid name"),
        (
            ["--spool", "{spool}", "--to", "bucket", "--endpoint-url", "https://host:99999"],
            "endpoint_url: must be the URL of a server, like https://s3.example.com or http://127.0.0.1:9000",
        ),
    ],
)
def test_what_a_run_would_refuse_is_not_written(site: Site, words: list[str], sentence: str) -> None:
    """What no run could use is refused before there is a configuration, with the words of the run."""
    (site.place / "link").symlink_to(site.spool)
    known = {"place": site.place, "spool": site.spool, "home": site.environment["HOME"]}
    made = site.place / "made.json"
    finished = site.run(command=[str(COMMAND), "init", str(made), "--yes", *(word.format(**known) for word in words)])
    assert finished.code == 2
    assert sentence.format(**known) in finished.stderr
    assert "s3cr" not in finished.stderr
    assert not made.exists()


def test_a_configuration_is_not_written_among_the_files_of_the_spool(site: Site) -> None:
    """There a run would ship it, or refuse to begin."""
    site.file("sensors/one.csv")
    made = site.spool / "sensors" / "made.json"
    finished = site.run(
        command=[str(COMMAND), "init", str(made), "--spool", str(site.spool), "--to", "bucket", "--yes"]
    )
    assert (finished.code, made.exists()) == (2, False)
    assert "lies in the spool" in finished.stderr


@pytest.mark.parametrize(
    ("to", "written"),
    [
        ("s3://bucket/a?b#c%20", {"bucket": "bucket", "key_prefix": "a?b#c%20/"}),
        ("ftp://me@host/a%20b", {"destination": {"type": "ftp", "host": "host", "user": "me", "path": "/a b"}}),
        ("file:///srv/a%23b", {"destination": {"type": "local", "path": "/srv/a#b"}}),
    ],
)
def test_a_destination_is_what_its_url_says(site: Site, to: str, written: dict[str, object]) -> None:
    """A prefix is taken as it is, as all tools for S3 do; in other URLs the path may be encoded. Nothing is dropped."""
    made = site.place / "made.json"
    words = ["init", str(made), "--spool", str(site.spool), "--to", to, "--yes"]
    assert site.run(command=[str(COMMAND), *words]).code == 0
    lines = [line for line in made.read_text().splitlines() if not line.strip().startswith("//")]
    found = json.loads(re.sub(r",(\s*})", r"\1", "\n".join(lines)))
    assert written.items() <= found.items()


def test_a_spool_that_is_not_there_yet(site: Site) -> None:
    """A configuration may be written before the spool is there, which its producer will make."""
    made = site.place / "made.json"
    words = ["init", str(made), "--spool", str(site.place / "later"), "--to", "bucket", "--yes"]
    finished = site.run(command=[str(COMMAND), *words])
    assert (finished.code, made.exists()) == (0, True)
    assert "does not exist" in finished.stdout


def test_a_password_is_not_taken(site: Site) -> None:
    """A password in the address is refused and not repeated."""
    words = ["init", str(site.place / "x.json"), "--spool", str(site.spool), "--to", "ftp://me:s3cr3t@host/x", "--yes"]
    finished = site.run(command=[str(COMMAND), *words])
    assert finished.code == 2
    assert "s3cr3t" not in finished.stderr + finished.stdout
    assert not (site.place / "x.json").exists()


@pytest.mark.parametrize("url", ["ftp://[host/", "ftp://host:99999/", "sftp://host:port/x", "s3:///x"])
def test_a_destination_that_is_no_url(site: Site, url: str) -> None:
    """What cannot be taken apart is refused with the forms that can be written."""
    words = ["init", str(site.place / "x.json"), "--spool", str(site.spool), "--to", url, "--yes"]
    finished = site.run(command=[str(COMMAND), *words])
    assert finished.code == 2
    assert finished.stderr.startswith(f"{url} is not a destination. Write ")
    assert not (site.place / "x.json").exists()


def test_it_asks_on_a_terminal(site: Site) -> None:
    """A person is asked for the spool, the destination and the layout, and offered the check and the units.

    A destination that is mistyped is asked for again.
    """
    archive = site.place / "archive"
    archive.mkdir()
    site.file("sensors/one.csv")
    leader, follower = pty.openpty()
    made = site.place / "made.json"
    process = subprocess.Popen(
        [str(COMMAND), "init", str(made)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**site.environment, "TERM": "dumb"},
        start_new_session=True,
    )
    os.close(follower)
    os.write(leader, f"{site.spool}\nftp://[host/\n{archive}\n\ny\ny\n".encode())
    shown = b""
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    os.close(leader)
    assert process.wait(30) == 0, shown
    text = shown.decode()
    assert "Error: ftp://[host/ is not a destination." in text
    assert "Layout (dated, tree, queue) [tree]" in text
    assert "Ready" in text
    assert "s3-uploader-cli units" in text
    assert "OnCalendar=" in text or "[Timer]" in text
    assert made.exists()
