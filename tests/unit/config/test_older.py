"""What the configurations of older programs say here."""

from __future__ import annotations

import os
import sys

import pytest

from s3_uploader import config
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


@pytest.mark.parametrize("text", ["", "{}", "[Other]\nx = 1", "bucket: b", "[Queue]\nno option\n  that goes on"])
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


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("directory = /in ; where it is\nbucket = b ; ours\nthreads = 3 ; few", {"max_concurrency": 3}),
        ("directory = /in\nbucket = b\nthreads = \u00b2", {}),
        ("directory = /in\nbucket = b\nthreads = " + "9" * 5000, {}),
        ("directory = %(root)s/in\nroot = %(disk)s\ndisk =\nbucket = b", {}),
    ],
)
def test_an_ini_file_as_its_own_parser_read_it(text: str, settings: dict[str, object]) -> None:
    """A semicolon begins a comment, references are resolved, and a number that is none is left out."""
    found = understood(f"# see [the manual\n[Queue]\n{text}\n")
    assert found is not None
    assert found.settings == {"layout": "queue", "settle_seconds": 0, "base_dir": "/in", "bucket": "b", **settings}


@pytest.mark.parametrize("directory", ["${buildout:directory}/in", "%(nowhere)s/in", "%(directory)s"])
def test_a_directory_that_refers_to_something_else(directory: str) -> None:
    """It is not taken for a path, and the note says which value is needed."""
    found = understood(f"[Queue]\ndirectory = {directory}\nbucket = b\n")
    assert found is not None
    assert "base_dir" not in found.settings
    assert [note.split(",")[0] for note in found.unread] == ["directory is not known here"]


def test_references_do_not_grow_without_bound() -> None:
    """Options that refer to each other many times are left as they are."""
    lines = [f"a{n} = " + f"%(a{n + 1})s" * 9 for n in range(30)]
    found = understood("[Queue]\ndirectory = %(a0)s\nbucket = b\n" + "\n".join(lines))
    assert found is not None
    assert "base_dir" not in found.settings


def test_an_interval_is_a_number_before_it_is_part_of_a_command() -> None:
    """What stands in place of the interval is not printed as a command to be typed."""
    found = understood("[Queue]\nbucket = b\npoll-interval = 1 && reboot\n")
    assert found is not None
    assert "reboot" not in str(found.notes)
    assert any("poll-interval" in note for note in found.notes)


COMMAND = "jollyae.py -b doodad -s /in -d /done"


@pytest.mark.parametrize(
    "text",
    [
        f"# starts jollyae for the doodads\ncd /opt/jollyae && exec python {COMMAND}\n",
        f"LOG=/var/log/jollyae.log\npkill -f jollyae.py\n{COMMAND} >> $LOG 2>&1 &\n",
        f"[Unit]\nDescription=jollyae\n[Service]\nExecStart=/opt/jollyae/{COMMAND}\n",
        'CMD ["jollyae.py", "-b", "doodad", "-s", "/in", "-d", "/done"]\n',
        "IN='/in'\nexport B=doodad # ours\njollyae.py -b ${B} -s $IN -d /done\n",
        "jollyae.py -b doodad \\\n  -s /in \\\n#  -r \\\n  -d /done\n",
        "jollyae.py -b=doodad -s=/in -d=/done -- -R",
    ],
)
def test_where_the_command_line_of_jollyae_may_stand(text: str) -> None:
    """The command counts, wherever else the name occurs, in a script, a unit, or a recipe for a container."""
    found = understood(text)
    assert found is not None
    assert found.settings == {
        "layout": "tree",
        "settle_seconds": 0,
        "bucket": "doodad",
        "base_dir": "/in",
        "on_success": {"move_to": "/done"},
    }


@pytest.mark.parametrize("name", ["/in#1", "'/in#1'", "/in\\#1"])
def test_a_number_sign_within_a_name(name: str) -> None:
    """It begins no comment, as in a shell."""
    found = understood(f"jollyae.py -b doodad -s {name} -r # the spool")
    assert found is not None
    assert found.settings["base_dir"] == "/in#1"


@pytest.mark.parametrize(("spool", "why"), [("'/in -r", "a quote is not closed"), ("$(pwd)/in", "a shell would")])
def test_a_directory_that_is_not_known(spool: str, why: str) -> None:
    """What only a shell knows is not guessed at, and the note says so."""
    found = understood(f"jollyae.py -b doodad -s {spool}")
    assert found is not None
    assert "base_dir" not in found.settings
    assert why in found.unread[0]


def test_where_completed_files_go_is_not_known() -> None:
    """Until it is known nothing is removed. The result is a configuration that works, also with a working directory."""
    command = "jollyae.py -b doodad -s /in -i /work -d $DONE"
    found = understood(command)
    assert found is not None
    assert found.unread[0].startswith("move_to of on_success is not known here, because a shell would compute it")
    assert "claim_dir was left out" in found.unread[1]
    assert config.from_mapping(dict(found.settings), source="test").on_success == "keep"
    removed = understood(command + " -r")
    assert removed is not None
    assert removed.settings["claim_dir"] == "/work"
    assert "on_success" not in removed.settings


@pytest.mark.parametrize(
    ("line", "spool"),
    [("ExecStart=/opt/", "%h/in"), ("command=/opt/", "%(ENV_HOME)s/in"), ("  command = /opt/", "%(here)s")],
)
def test_a_directory_that_a_service_manager_knows(line: str, spool: str) -> None:
    """What only systemd or supervisor knows is not guessed at, and costs no other option."""
    found = understood(f"{line}jollyae.py -b doodad -s {spool} -i {spool}/w -d {spool}/done -f /failed\n")
    assert found is not None
    assert [note for note in found.unread if "the service manager would compute it" in note and spool in note]
    assert "base_dir" not in found.settings
    assert "claim_dir" not in found.settings
    assert found.settings["on_success"] == "keep"
    assert found.settings["on_failure"] == {"move_to": "/failed"}


def test_a_percent_sign_of_a_unit() -> None:
    """Two of them stand for one in a unit, and in a shell for themselves."""
    for line, name in (("ExecStart=", "/in%20"), ("", "/in%%20")):
        found = understood(f"{line}jollyae.py -b doodad -s /in%%20 -d /done")
        assert found is not None
        assert found.settings["base_dir"] == name


@pytest.mark.parametrize(
    "text", ["[Queue]\ndirectory = in\nbucket = b\n", "cd /var/spool && jollyae.py -b b -s in -d /done\n"]
)
def test_relative_directories(text: str) -> None:
    """Where the program was started is not known, so the note names what depends on it."""
    found = understood(text)
    assert found is not None
    assert [note for note in found.notes if "are taken from the current one: in." in note]
    absolute = understood(text.replace(" in", " /in"))
    assert absolute is not None
    assert not [note for note in absolute.notes if "elsewhere" in note]


def test_several_commands() -> None:
    """The first of those with the most options is taken over, and the note says so."""
    less = "jollyae.py -b less -s /less &"
    found = understood(f"{less}\n{COMMAND} &\n{COMMAND.replace('/in', '/other')} &\n")
    assert found is not None
    assert found.settings["base_dir"] == "/in"
    assert any("There are 3 such commands; only the first of those with the most options" in n for n in found.notes)
    found = understood(f"{COMMAND} &\n{COMMAND.replace('/in', '/other')} &\n")
    assert found is not None
    assert any("There are 2 such commands" in note for note in found.notes)


def test_commands_for_the_same_directory() -> None:
    """Commands that differ are counted, whatever they differ in; workers that are started alike are one."""
    one, two = (understood(f"{COMMAND} &\n{COMMAND}{more} &\n") for more in ("", " -R"))
    assert one is not None
    assert two is not None
    assert not any("such commands" in note for note in one.notes)
    assert any("There are 2 such commands" in note for note in two.notes)


def test_an_abbreviated_option() -> None:
    """An option that its parser took abbreviated is known."""
    found = understood(f"{COMMAND} --random-no 0.2 -n")
    assert found is not None
    assert not any("has no meaning" in note for note in found.notes)


MINIO = {"bucket": "b", "endpoint_url": "http://minio:9000"}
TWO_SECTIONS = """
s3:
    default_bucket: ours
    endpoint: s3-eu-west-1.amazonaws.com
backup:
    default_bucket: theirs
    endpoint: backup:9000
    tls: no
"""


@pytest.mark.parametrize("has_yaml", [True, False])
@pytest.mark.parametrize(
    ("text", "settings"),
    [
        (TWO_SECTIONS, {"bucket": "ours", "region": "eu-west-1"}),
        (TWO_SECTIONS.replace("s3:", "main:"), {"bucket": "ours", "region": "eu-west-1"}),
        ("s3:\n  default_bucket: 0123", {"bucket": "0123"}),
        ("s3:\n  default_bucket: 2016-01-01", {"bucket": "2016-01-01"}),
        ("s3:\n  default_bucket: ~\n  secret_access_key: x", {}),
        ("s3:\n  default_bucket: !!python/str b", {}),
        ("s3:\n\tdefault_bucket: b\n\tregion: null", {"bucket": "b"}),
        ("s3:\n  default_bucket: b\n  endpoint: minio:9000\n  tls: 0", MINIO),
        ("s3:\n  default_bucket: b\n  endpoint: minio:9000\n  tls: No # at home", MINIO),
    ],
)
def test_a_yaml_file_of_several_sections_and_types(
    text: str, settings: dict[str, object], has_yaml: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sections are not mixed, and only text is a name: with PyYAML and without."""
    if not has_yaml:
        monkeypatch.setitem(sys.modules, "yaml", None)
    found = understood(text)
    assert found is not None
    assert found.settings == settings


@pytest.mark.parametrize(
    "text",
    [
        "s3: {secret_access_key: x, default_bucket: b, region: eu-west-1}",
        '{"s3": {"default_bucket": "b", "region": "eu-west-1"}}',
        's3:\n  default_bucket: "\\x62"\n  region: &r eu-west-1',
        "s3:\n  default_bucket: >-\n    b\n  region: eu-west-1",
        "all: &all\n  region: eu-west-1\ns3:\n  <<: *all\n  default_bucket: b",
    ],
)
def test_a_yaml_file_in_other_forms(text: str) -> None:
    """Whatever a parser of YAML reads is read."""
    found = understood(text)
    assert found is not None
    assert found.settings == {"bucket": "b", "region": "eu-west-1"}


def test_a_yaml_value_that_is_not_read_is_noted_without_pyyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    """An anchor is not taken for the name of a bucket."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    found = understood("s3:\n  default_bucket: &b bucket\n  endpoint: e")
    assert found is not None
    assert "bucket" not in found.settings
    assert any("default_bucket" in note for note in found.notes)
