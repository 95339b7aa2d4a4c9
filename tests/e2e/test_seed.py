"""What the first users were promised in print: the configuration, the tree, the lines, the cron job."""

from __future__ import annotations

import re
import shlex
import subprocess

import pytest

from tests.e2e.site import COMMAND, Site, entries
from tests.servers.fault_script import error
from tests.servers.fault_server import FaultServer

TREE = (
    "bedroom/2020/13/29/20/46-topic.dat",
    "bedroom/2020/13/29/21/41-topic.dat",
    "bedroom/2020/13/29/12/50-topic.dat",
    "bathroom/2020/13/29/10/21-topic.dat",
    "bathroom/2020/13/29/10/38-topic.dat",
    "kitchen/2020/13/29/6/54-topic.dat",
)
"""The tree of the printed example, with its thirteenth month."""

STAMP = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"


@pytest.fixture
def example(site: Site, fault_server: FaultServer) -> Site:
    """The printed example: its configuration and its tree."""
    site.ship_to(fault_server)
    site.settings = {"base_dir": str(site.spool), "s3_bucket": fault_server.bucket}
    for path in TREE:
        site.file(path, path.encode())
    return site


def test_the_example_is_shipped_as_printed(example: Site, fault_server: FaultServer) -> None:
    """The example's files become objects under their relative paths, and are deleted, each with the printed line."""
    finished = example.run()
    assert finished.code == 0, finished.stderr
    assert fault_server.objects() == {path: path.encode() for path in TREE}
    assert example.left() == {}
    assert finished.stdout == ""
    for path in TREE:
        printed = f"{example.spool}/{path} has been uploaded to {fault_server.bucket}."
        assert re.search(f"^{STAMP} -   INFO - {re.escape(printed)}$", finished.stderr, re.MULTILINE)
    assert len(finished.log) == len(TREE) + 1
    assert finished.sentences("INFO")[-1].startswith(f"6 files (205 B) shipped to {fault_server.bucket} in ")


def test_the_directories_that_became_empty_are_removed(example: Site) -> None:
    """After the example the spool is there, and nothing in it."""
    assert example.run().code == 0
    assert example.spool.is_dir()
    assert entries(example.spool) == []


def test_oldest_first_across_locations(example: Site, fault_server: FaultServer) -> None:
    """Files leave in the order of their times, whatever their location."""
    example.settings["max_concurrency"] = 1
    assert example.run().code == 0
    order = [request.key for request in fault_server.requests_of("PutObject")]
    times = [tuple(int(number) for number in re.findall(r"\d+", key)) for key in dict.fromkeys(order)]
    assert times == sorted(times)


def test_a_second_run_has_nothing_to_do_and_says_nothing(example: Site, fault_server: FaultServer) -> None:
    """A run over an empty spool prints nothing, asks nothing and exits with 0, so that cron has nothing to mail."""
    example.run()
    fault_server.forget_requests()
    finished = example.run()
    assert (finished.code, finished.stdout, finished.stderr) == (0, "", "")
    assert not fault_server.counts()


def test_wrong_credentials_give_the_printed_line(example: Site, fault_server: FaultServer) -> None:
    """A wrong key id gives the printed warning for the first file, one sentence for the rest, and keeps every file."""
    example.environment["AWS_ACCESS_KEY_ID"] = "AKIDOESNOTEXIST00000"
    finished = example.run()
    assert finished.code == 3
    assert sorted(example.left()) == sorted(TREE)
    warnings = [line for line in finished.stderr.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    printed = re.fullmatch(
        rf"{STAMP} - WARNING - Failed to upload {re.escape(str(example.spool))}/(\S+) to "
        rf"{re.escape(fault_server.bucket)}/(\S+): An error occurred \(InvalidAccessKeyId\) when calling the PutObject "
        r"operation: The AWS Access Key Id you provided does not exist in our records\.(.*)",
        warnings[0],
    )
    assert printed is not None, warnings[0]
    assert printed[1] == printed[2]
    assert printed[1] in TREE
    assert finished.sentences("ERROR") == [
        "The run was abandoned, all files are kept: An error occurred (InvalidAccessKeyId) when calling the PutObject "
        "operation: The AWS Access Key Id you provided does not exist in our records." + printed[3]
    ]


def test_the_failure_of_one_file_gives_the_printed_line(example: Site, fault_server: FaultServer) -> None:
    """A file that S3 refuses gives the printed warning and does not keep the others from being shipped."""
    poison = "bathroom/2020/13/29/10/38-topic.dat"
    fault_server.faults.add(error("InvalidArgument").only(key=poison))
    finished = example.run()
    assert finished.code == 1
    assert list(example.left()) == [poison]
    (warning,) = finished.sentences("WARNING")
    assert warning == (
        f"Failed to upload {example.spool}/{poison} to {fault_server.bucket}/{poison}: An error occurred "
        "(InvalidArgument) when calling the PutObject operation: Invalid Argument"
    )


def test_the_cron_line(example: Site, fault_server: FaultServer) -> None:
    """What crond executes, through sh, with no terminal and few variables, ships the example."""
    example.write_config()
    line = f"{shlex.quote(str(COMMAND))} {shlex.quote(str(example.config_file))}"
    finished = subprocess.run(
        ["/bin/sh", "-c", line],
        env={**example.environment, "SHELL": "/bin/sh"},
        cwd=example.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert sorted(fault_server.objects()) == sorted(TREE)
    assert example.left() == {}
    assert finished.stdout == ""
    assert "\x1b" not in finished.stderr
    assert finished.stderr.count(" has been uploaded to ") == len(TREE)


def test_help_as_printed(site: Site) -> None:
    """``--help`` shows how the command is used and ends with exit code 0."""
    finished = site.run(command=[str(COMMAND), "--help"])
    assert finished.code == 0
    assert finished.stdout.startswith("Usage: s3-uploader-cli ")
    assert "CONFIG_FILE" in finished.stdout
    assert "--help" in finished.stdout
    assert finished.stderr == ""


def test_without_arguments_it_explains_itself(site: Site) -> None:
    """Without an argument it says how it is used and exits with 2."""
    finished = site.run(command=[str(COMMAND)])
    assert finished.code == 2
    assert "Usage: s3-uploader-cli " in finished.stdout + finished.stderr


@pytest.mark.parametrize("name", ["config.json", "run", "my config.json", "-leading-dash.json"])
def test_the_configuration_file_may_have_any_name(example: Site, name: str) -> None:
    """A configuration named like a command or like an option is reached as ``./NAME``."""
    example.config_file = example.home / name
    example.write_config()
    finished = example.run(command=[str(COMMAND), f"./{name}"])
    assert finished.code == 0, finished.stderr
    assert example.left() == {}
