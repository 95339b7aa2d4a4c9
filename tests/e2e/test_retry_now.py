"""What was mended is tried at once: on demand, and by itself when the configuration has changed."""

from __future__ import annotations

import json
import os

import pytest

from tests.e2e.site import COMMAND, Site

PATH = "bedroom/2020/11/29/20/46-topic.dat"


@pytest.fixture
def stuck(site: Site) -> Site:
    """A file that has failed, since there is other content under its key, and waits for its next try."""
    archive = site.ship_to_directory()
    site.file(PATH, b"ours")
    (archive / PATH).parent.mkdir(parents=True)
    (archive / PATH).write_bytes(b"theirs")
    assert site.run().code == 1
    return site


def theirs_away(site: Site) -> None:
    """Remove what is in the way."""
    (site.place / "archive" / PATH).unlink(missing_ok=True)
    for path in site.place.rglob(PATH):
        if site.spool not in path.parents:
            path.unlink()


def test_retry_ignores_the_pauses(stuck: Site) -> None:
    """A run leaves a file whose pause is not over, which status says; with --retry it is tried."""
    assert "attempt" in stuck.run("status").stdout
    theirs_away(stuck)
    assert (stuck.run().code, len(stuck.left())) == (1, 1)
    assert (stuck.run("run", "--retry").code, stuck.left()) == (0, {})


def test_forget(stuck: Site) -> None:
    """A file that is forgotten is new to the next run; one that does not fail is named, with exit code 1."""
    theirs_away(stuck)
    assert stuck.run("forget", "bedroom/other").code == 1
    assert stuck.run("forget").code == 2
    finished = stuck.run("forget", str(stuck.spool / PATH), "--json")
    assert (finished.code, json.loads(finished.stdout)["forgotten"]) == (0, [PATH])
    assert (stuck.run().code, stuck.left()) == (0, {})


def test_forget_a_path_as_the_shell_completes_it(stuck: Site) -> None:
    """A path may begin at the current directory, too."""
    beside = os.path.relpath(stuck.spool / PATH, stuck.home)
    finished = stuck.run("forget", beside, "--json")
    assert (finished.code, json.loads(finished.stdout)["forgotten"]) == (0, [PATH])


def test_forget_everything(stuck: Site) -> None:
    """With --all, or with a directory or a wildcard, all that fail there."""
    for arguments in (["bedroom"], ["*-topic.dat"], ["--all"]):
        assert stuck.run("forget", *arguments).code == 0
        if arguments != ["--all"]:
            assert (stuck.run().code, len(stuck.left())) == (1, 1)


@pytest.mark.rotated("whole")
@pytest.mark.parametrize("whole", ["{spool}", "{spool}/", ".", "{link}", "{link}/bedroom"])
def test_forget_the_whole_spool(stuck: Site, whole: str) -> None:
    """A directory stands for all files below it, and so does the spool, however it is named."""
    (stuck.place / "link").symlink_to(stuck.place)
    link = stuck.place / "link" / "spool"
    stuck.settings["base_dir"] = str(link)
    assert stuck.run().code == 1
    finished = stuck.run("forget", whole.format(spool=stuck.spool, link=link), "--json")
    assert (finished.code, json.loads(finished.stdout)) == (0, {"forgotten": [PATH], "not_failing": []})


def test_forget_the_current_directory(stuck: Site) -> None:
    """In a directory of the spool, ``.`` is that directory and ``..`` the one above it."""
    (stuck.spool / "attic").mkdir()
    for place, named, code in (("attic", ".", 1), ("bedroom", ".", 0), ("attic", "..", 0)):
        shell = ["sh", "-c", 'cd "$0" && exec "$@"', str(stuck.spool / place), str(COMMAND)]
        finished = stuck.run(command=[*shell, "forget", str(stuck.config_file), named])
        assert finished.code == code
        if place == "bedroom":
            assert stuck.run().code == 1


def test_nothing_to_forget(stuck: Site) -> None:
    """Where nothing fails, that is said of the spool, and not of a file of its name."""
    assert stuck.run("forget", "--all").code == 0
    finished = stuck.run("forget", ".")
    assert (finished.code, finished.stdout) == (1, ".: no file is failing\n0 files will be tried by the next run.\n")


def test_forget_in_a_damaged_ledger(stuck: Site) -> None:
    """A ledger that is damaged is set aside, and the command says under which name."""
    (path,) = stuck.home.rglob("ledger.sqlite3")
    for companion in ("-wal", "-shm"):
        path.with_name(path.name + companion).unlink(missing_ok=True)
    path.write_bytes(b"no ledger" * 500)
    finished = stuck.run("forget", "--all")
    assert (finished.code, finished.stdout) == (0, "0 files will be tried by the next run.\n")
    assert "The ledger was damaged" in finished.stderr
    assert "ledger.corrupt-" in finished.stderr


def test_a_ledger_that_cannot_be_seen(stuck: Site) -> None:
    """Where a ledger may be and this user may not look, no command says that nothing fails or that there is none."""
    stuck.settings["state_dir"] = str(stuck.place / "loop")
    os.symlink("loop", stuck.place / "loop")
    for command in (("forget", "--all"), ("history",), ("report",)):
        finished = stuck.run(*command)
        assert (finished.code, finished.stdout) == (2, "")
        assert "Too many levels of symbolic links" in finished.stderr
    finished = stuck.run(command=[str(COMMAND), "ledger", "compact", str(stuck.config_file)])
    assert (finished.code, "Too many levels" in finished.stderr) == (2, True)


def test_no_ledger(stuck: Site) -> None:
    """What another user or a service has shipped is not reported as nothing: a note says where the ledger would be."""
    stuck.settings["state_dir"] = str(stuck.place / "elsewhere")
    for command in (("forget", "--all"), ("history",), ("history", "--json"), ("report", "--json")):
        finished = stuck.run(*command)
        assert finished.code == 0
        assert finished.stderr.startswith(f"There is no ledger {stuck.place}/elsewhere/spool-")
        assert ", so this knows of no run. Run this as the user that runs the uploads" in finished.stderr


def test_a_changed_on_conflict_ends_the_pause(stuck: Site) -> None:
    """Who sets on_conflict to overwrite sees the file shipped by the next run, and not in hours."""
    stuck.settings["destination"]["on_conflict"] = "overwrite"
    finished = stuck.run()
    assert (finished.code, stuck.left()) == (0, {})
    assert any(
        "on_conflict has changed, 1 file that failed is tried again" in told for told in finished.sentences("INFO")
    )


def test_a_changed_destination_ends_the_pause(stuck: Site) -> None:
    """Another destination, or another prefix, is worth a try at once; an unchanged one is not."""
    assert "tried again" not in stuck.run().stderr
    stuck.settings["key_prefix"] = "new/"
    assert (stuck.run().code, stuck.left()) == (0, {})


def test_a_changed_layout_ends_the_pause(stuck: Site) -> None:
    """The key of the file may be another one now."""
    stuck.settings["layout"] = "tree"
    assert "1 file that failed is tried again" in stuck.run().stderr


@pytest.mark.parametrize("change", ["--retry", "on_conflict", "key_prefix", "layout"])
def test_a_dry_run_knows_that_the_pause_ends(stuck: Site, change: str) -> None:
    """It says of a failed file what the run then does."""
    assert "Dry run: 0 files" in stuck.run("run", "--dry-run").stdout
    options = ["--retry"] if change == "--retry" else []
    if change == "on_conflict":
        stuck.settings["destination"]["on_conflict"] = "overwrite"
    elif change == "key_prefix":
        stuck.settings["key_prefix"] = "new/"
    elif change == "layout":
        stuck.settings["layout"] = "tree"
    assert "Dry run: 1 file" in stuck.run("run", "--dry-run", *options).stdout
    stuck.run("run", *options)
    assert "Dry run: 0 files" in stuck.run("run", "--dry-run").stdout
