"""Files that a layout does not recognise: how many, why, and which configuration would ship them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from s3_uploader.core.findings import Strangers
from s3_uploader.core.model import Left
from s3_uploader.spool.layouts.base import Globs, Layout
from s3_uploader.spool.layouts.dated import DatedLayout, utc_epoch
from s3_uploader.spool.layouts.queue import QueueLayout
from s3_uploader.spool.layouts.strangers import in_words, look_at, matches, proposal, remedy, why_not
from s3_uploader.spool.layouts.tree import TreeLayout
from s3_uploader.spool.root import SpoolRoot
from tests.fakes import NO_GLOBS, NOW, Skips, write

DAY = 86400.0


def a_layout(name: str, globs: Globs) -> Layout:
    """The layout of that name."""
    if name == "dated":
        return DatedLayout(settle_seconds=10, globs=globs, epoch_of=utc_epoch)
    return TreeLayout(settle_seconds=10, globs=globs) if name == "tree" else QueueLayout(globs=globs)


def strangers(spool: Path, layout: str = "dated", *, globs: Globs = NO_GLOBS, steps: int = 10**6) -> Strangers:
    """What a scan with the layout passes over, as it is looked at in so many steps at the most."""
    root, entries, left = SpoolRoot(str(spool)), [], iter(range(steps))
    scanned = a_layout(layout, globs).scan(
        root, lambda names, name, reason, detail: entries.append((names, name)) if reason is Left.UNMATCHED else None
    )
    list(scanned)
    found = look_at(root, entries, layout=layout, globs=globs, now=NOW, go_on=lambda: next(left, None) is not None)
    root.close()
    return found


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("a/2026/11/20/46-x.dat", "four directories deep, five expected"),
        ("a/2026/11/20/15/x/46-x.dat", "six directories deep, five expected"),
        ("a/46-x.dat", "one directory deep, five expected"),
        ("46-x.dat", "directly in the spool, five directories expected"),
        ("a/2026/2026-11/20/15/46-x.dat", "month 2026-11, MM expected"),
        ("a/26/11/20/15/46-x.dat", "year 26, YYYY expected"),
        ("a/2026/11/20/15h/46-x.dat", "hour 15h, HH expected"),
        ("a/2026/11/20/15/46-x.csv", "ends in .csv, .dat expected"),
        ("a/2026/11/20/15/46-x", "has no ending, .dat expected"),
        ("a/2026/11/20/15/x.dat", "its name does not begin with a minute, as in 46-topic.dat"),
        ("a/2026/11/20/15/46-x.dat", ""),
        ("a/2020/13/29/6/54-topic.dat", ""),
    ],
)
def test_why_not_dated(path: str, why: str) -> None:
    """The reason names what was found and what was expected; what the layout takes has none."""
    assert (why_not("dated", path.split("/")), matches("dated", path.split("/"))) == (why, not why)


def test_the_reasons_are_those_of_the_scan(tmp_path: Path) -> None:
    """What has a reason is what the layout passes over, and nothing else."""
    paths = ["a/2026/11/20/15/46-x.dat", "a/2026/11/20/15/46-x.csv", "a/2026/11/20/46-y.dat", "a/x/1/1/1/46-z.dat", "r"]
    for path in paths:
        write(tmp_path / path)
    for layout in ("dated", "tree", "queue"):
        root, skips = SpoolRoot(str(tmp_path)), Skips()
        taken = {item.path for item in a_layout(layout, NO_GLOBS).scan(root, skips) if hasattr(item, "path")}
        root.close()
        assert taken == {path for path in paths if matches(layout, path.split("/"))}


def test_files_are_counted_and_not_directories(tmp_path: Path) -> None:
    """A foreign directory is walked to its files; an empty one, hidden files and links are none."""
    for number in range(7):
        write(tmp_path / f"photos/holiday/{number}.jpg")
    write(tmp_path / "photos/.thumbs/1.jpg")
    write(tmp_path / ".stfolder")
    (tmp_path / "photos/link").symlink_to("/etc/passwd")
    (tmp_path / "empty/of/files").mkdir(parents=True)
    found = strangers(tmp_path)
    assert (found.files, found.is_complete, len(found.examples)) == (7, True, 3)


def test_what_the_user_keeps_out_is_no_stranger(tmp_path: Path) -> None:
    """What exclude names, or include does not, was meant to stay."""
    write(tmp_path / "notes/readme.txt")
    write(tmp_path / "a/x.csv")
    assert strangers(tmp_path, globs=Globs(include=[], exclude=["*.txt"])).files == 1
    assert strangers(tmp_path, globs=Globs(include=["*.dat"], exclude=[])).files == 0
    assert strangers(tmp_path, globs=Globs(include=[], exclude=["notes/", "a/"])).files == 0


def test_the_old_ones(tmp_path: Path) -> None:
    """Those older than a day are counted, and the oldest is named."""
    write(tmp_path / "new.txt", mtime=NOW - DAY + 60)
    write(tmp_path / "old.txt", mtime=NOW - DAY - 60)
    write(tmp_path / "a/oldest.txt", mtime=NOW - 9 * DAY)
    found = strangers(tmp_path)
    assert found.oldest is not None
    assert (found.files, found.old, found.oldest.path, found.oldest.mtime) == (3, 2, "a/oldest.txt", NOW - 9 * DAY)


def test_a_huge_tree_is_sampled(tmp_path: Path) -> None:
    """When the time is over what was found so far is told, as less than all."""
    for number in range(50):
        write(tmp_path / f"x/{number}.jpg")
    found = strangers(tmp_path, steps=20)
    assert (found.files, found.is_complete) == (20, False)
    assert in_words(found, layout="dated", matching=0, base_dir="/spool").startswith("None of more than 20 files in /")


def test_each_reason_has_its_example(tmp_path: Path) -> None:
    """Three examples of three reasons say more than three of one."""
    for number in range(30):
        write(tmp_path / f"a/{number}.txt")
    write(tmp_path / "b/2026/2026-11/20/15/46-x.dat")
    write(tmp_path / "b/2026/11/20/15/46-x.csv")
    reasons = {example.why for example in strangers(tmp_path).examples}
    assert reasons == {"one directory deep, five expected", "month 2026-11, MM expected", "ends in .csv, .dat expected"}


@pytest.mark.parametrize(
    ("layout", "paths", "change", "taken"),
    [
        ("dated", ["a/x.csv", "b/y.csv"], {"layout": "tree", "prune_empty_dirs": True}, 2),
        ("dated", ["x.csv", ".y"], {"layout": "tree"}, 1),
        ("dated", ["x.tmp"], {}, 0),
        ("dated", ["d/a/2026/11/20/15/46-x.dat", "d/b/2026/11/20/15/46-x.dat"], {"base_dir": "/spool/d"}, 2),
        ("queue", ["a/2026/11/20/15/46-x.dat"], {"layout": "dated"}, 1),
        ("queue", ["a/x"], {"layout": "tree"}, 1),
        ("queue", ["d/a/2026/11/20/15/46-x.dat"], {"base_dir": "/spool/d", "layout": "dated"}, 1),
        ("tree", ["a/x.part"], {}, 0),
    ],
)
def test_the_proposal(layout: str, paths: list[str], change: dict[str, object], taken: int) -> None:
    """The configuration that ships them, held against the very paths; none where no layout would."""
    assert proposal(layout, [path.split("/") for path in paths], base_dir="/spool/") == (change, taken)


def test_what_a_person_reads(tmp_path: Path) -> None:
    """How many match and how many do not, why, and the words to write into the configuration."""
    write(tmp_path / "a/x.csv")
    write(tmp_path / "a/y.csv")
    found = strangers(tmp_path)
    assert in_words(found, layout="dated", matching=4, base_dir="/spool") == (
        "4 files in /spool match the layout dated (location/YYYY/MM/DD/HH/mm-topic.dat); 2 files do not, and no run "
        "ships them: a/x.csv (one directory deep, five expected), a/y.csv (one directory deep, five expected)"
    )
    assert json.loads("{" + found.proposal + "}") == {"layout": "tree", "prune_empty_dirs": True}
    assert f"To ship all 2, set {found.proposal} in the configuration;" in remedy(found, "dated")


@pytest.mark.parametrize(("names", "begins"), [(["a~"], "It has the name of an"), (["a~", "b.tmp"], "They have names")])
def test_names_of_unfinished_files(tmp_path: Path, names: list[str], begins: str) -> None:
    """No layout takes them; one of them is spoken of as one."""
    for name in names:
        write(tmp_path / name)
    assert remedy(strangers(tmp_path, layout="tree"), "tree").startswith(begins)


def test_what_a_change_of_a_queue_means(tmp_path: Path) -> None:
    """With another layout the files of a queue would get other keys; who is told of it is told that too."""
    write(tmp_path / "a/x")
    found = strangers(tmp_path, layout="queue")
    assert remedy(found, "queue").startswith(
        'To ship it, move such files into the spool itself, or set "layout": "tree" in the configuration, which '
    )


def test_a_name_that_cannot_be_printed(tmp_path: Path) -> None:
    """It is told and remembered in its printable form."""
    write(tmp_path / "a\nb\udcff.csv")
    (example,) = strangers(tmp_path).examples
    assert example.path == "a\\nb\\xff.csv"
