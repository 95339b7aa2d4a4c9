"""What the configurations of older programs say here."""

from __future__ import annotations

import os

import pytest

from s3_uploader.config.older import understood

ZC = """
[Credentials]
aws_access_key_id = 42
aws_secret_access_key = k3y

[Queue]
directory = /spool/queue
bucket = testbucket
poll-interval = 1
threads = 2
"""
S3 = """---
s3:
    access_key_id: "XXXXX"
    secret_access_key: "YYYYYYY"
    default_bucket: "ZZZZZZZ"
    endpoint: "s3-us-west-2.amazonaws.com"
"""
JOLLYAE = """#!/bin/sh
export AWS_ACCESS_KEY_ID=x
jollyae.py -v  -b doodad-results          \\
           -a public-read                 \\ # now everyone can dl
           -s /var/spool/doodad/incoming  \\
           -i /var/spool/doodad/working   \\
           -f /var/spool/doodad/failed    \\ # save failures
           -r                               # Remove successes
echo done -s nowhere
"""


def test_zc() -> None:
    """The INI file: a queue without a settle time; its secrets stay there."""
    found = understood(ZC)
    assert found is not None
    assert found.settings == {
        "layout": "queue",
        "settle_seconds": 0,
        "base_dir": "/spool/queue",
        "bucket": "testbucket",
        "max_concurrency": 2,
    }
    assert "k3y" not in str(found)
    assert any("--interval 1" in note for note in found.notes)


def test_s3() -> None:
    """The YAML file: bucket and region, and another service with and without TLS; its secrets stay there."""
    found = understood(S3)
    assert found is not None
    assert found.settings == {"bucket": "ZZZZZZZ", "region": "us-west-2"}
    assert "YYYY" not in str(found)
    minio = understood("default_bucket: b\nendpoint: localhost:9000\ntls: False  # at home")
    assert minio is not None
    assert minio.settings == {"bucket": "b", "endpoint_url": "http://localhost:9000"}


def test_jollyae_in_a_script() -> None:
    """The command over several lines, with the comments of its manual; what follows it is none of its options."""
    found = understood(JOLLYAE)
    assert found is not None
    assert found.settings == {
        "layout": "tree",
        "settle_seconds": 0,
        "bucket": "doodad-results",
        "acl": "public-read",
        "base_dir": "/var/spool/doodad/incoming",
        "claim_dir": "/var/spool/doodad/working",
        "on_failure": {"move_to": "/var/spool/doodad/failed"},
    }


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-s /i -d /done -f /i", {"on_success": {"move_to": "/done"}}),
        ("-s /i -d /done -R", {"on_success": {"move_to": "/done"}, "on_failure": "delete"}),
        ("-s /i -f /bad -r", {"on_failure": {"move_to": "/bad"}}),
    ],
)
def test_what_becomes_of_files(options: str, settings: dict[str, object]) -> None:
    """Completed, failed, resubmitted and removed, each as its options say."""
    found = understood(f"python jollyae.py {options}")
    assert found is not None
    assert found.settings == {"layout": "tree", "settle_seconds": 0, "base_dir": "/i"} | settings


@pytest.mark.parametrize("text", [ZC, JOLLYAE])
def test_what_is_different_here_is_noted(text: str) -> None:
    """Both ran for ever, and replaced what was under a key; who converts them reads what happens now."""
    found = understood(text)
    assert found is not None
    assert found.is_service
    assert any('"on_conflict": "overwrite"' in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[Queue]\nbucket = b\nthreads = many\nretries = 3\n", "retries, threads"),
        ("default_bucket: b\nproxy: http://p\nregion: eu-central-1", "proxy"),
        ("jollyae.py -s /in -b b --incoming=/in -x -v", "--incoming, -x"),
    ],
)
def test_what_is_not_taken_over_is_noted(text: str, names: str) -> None:
    """An option that this program does not know, or whose value makes no sense, is named, not dropped silently."""
    found = understood(text)
    assert found is not None
    assert f"Not taken over, because it has no meaning here: {names}." in found.notes


def test_credentials_beside_the_queue_are_noted() -> None:
    """They are not taken over, wherever in the file they stand, and are not called unknown."""
    found = understood("[Queue]\nbucket = b\naws_secret_access_key = k3y\naws_access_key_id = 42\n")
    assert found is not None
    assert any("credentials were not taken over" in note for note in found.notes)
    assert not any("has no meaning" in note for note in found.notes)
    assert "k3y" not in str(found)


def test_a_home_directory() -> None:
    """``~`` is the home directory in each of them, as a shell or whoever wrote it means it."""
    home = os.path.expanduser("~")
    for text in ("[Queue]\ndirectory = ~/in", "jollyae.py -s ~/in -b b"):
        found = understood(text)
        assert found is not None
        assert found.settings["base_dir"] == f"{home}/in"


@pytest.mark.parametrize("text", ["", "{}", "[Other]\nx = 1", "bucket: b"])
def test_something_else(text: str) -> None:
    """What is none of them is not guessed at."""
    assert understood(text) is None


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("[Queue]\nthis is no option\ndirectory = /x\n", {"base_dir": "/x"}),
        ("before = any section\n[Queue]\nbucket = b\n", {"bucket": "b"}),
        ("[Queue]\nbucket =\ndirectory =\nthreads = many\n", {}),
    ],
)
def test_an_ini_file_that_is_not_as_it_should_be(text: str, settings: dict[str, str]) -> None:
    """What is empty or makes no sense is left out: no directory is never the current one."""
    found = understood(text)
    assert found is not None
    assert found.settings == {"layout": "queue", "settle_seconds": 0, **settings}


@pytest.mark.parametrize(
    ("command", "settings"),
    [
        ("jollyae.py -bdoodad -s/in -d/done", {"base_dir": "/in", "on_success": {"move_to": "/done"}}),
        ("jollyae.py -vb doodad -s /in -r", {"base_dir": "/in"}),
        ("jollyae.py -b doodad -s /in/ -f /in", {"base_dir": "/in"}),
        ("jollyae.py -b doodad -s /in -d /done; rm -r /old", {"base_dir": "/in", "on_success": {"move_to": "/done"}}),
        ("jollyae.py -b doodad -s /in -d /done>>/log 2>&1 &", {"base_dir": "/in", "on_success": {"move_to": "/done"}}),
        ('jollyae.py -b doodad -s /in -d "$DONE/x"', {"base_dir": "/in", "on_success": "keep"}),
    ],
)
def test_a_command_line_as_shells_have_them(command: str, settings: dict[str, object]) -> None:
    """Options may stand together and next to their values, and what follows the command is not its own."""
    found = understood(command)
    assert found is not None
    assert found.settings == {"layout": "tree", "settle_seconds": 0, "bucket": "doodad", **settings}
