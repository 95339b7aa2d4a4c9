"""The pure parts of the benchmarks: a figure is only worth something if a failure cannot pass for one."""

from __future__ import annotations

import datetime
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import chart, launch, objects, quick, results, table
from benchmarks.arrival import Pieces, missing_or_wrong
from benchmarks.cases import CASES, Case, Goal
from benchmarks.contestants import AwsCli, Contestant, Job, Loop, Ours, Rclone, S5cmd, label
from benchmarks.machine import Busy
from benchmarks.results import CaseResult, Results
from benchmarks.spools import BLOCK, Plan, Spool
from benchmarks.summary import Row, Run, judge, of_one_file, rounds_for, summarize
from tests.servers.base import S3Endpoint

NOON = datetime.datetime(2026, 11, 20, 12, 0, tzinfo=datetime.timezone.utc)


def run(seconds: float, *, cpu: float = 1.0, problem: str = "") -> Run:
    """A run of so many seconds."""
    return Run(seconds=seconds, cpu=cpu, peak=50e6, problem=problem)


def row(name: str, seconds: float, *, cpu: float = 1.0, problem: str = "") -> Row:
    """A row of so many seconds."""
    return Row(label=name, flags="", rounds=1, seconds=seconds, cpu=cpu, peak=50e6, problem=problem)


class TestSpools:
    def test_every_file_has_a_path_of_its_own_in_the_dated_layout(self) -> None:
        """What is made is what the layout reads, and nothing is made twice."""
        for plan in (Plan(files=1000, size=1), Plan(files=1000, size=1, fresh=True, topics=100)):
            paths = plan.paths(now=NOON)
            assert len(set(paths)) == 1000
            assert all(path.startswith("location") and path.endswith(".dat") for path in paths)
            assert all(path.count("/") == 5 for path in paths)
        assert all("/2026/11/20/12/00-" in path for path in plan.paths(now=NOON))

    def test_directories_are_as_many_as_planned(self) -> None:
        """A plan has all its files in one directory, or ten in each."""
        paths = Plan(files=1000, size=1, locations=1, minutes=0).paths(now=NOON)
        assert (len(set(paths)), len({path.rpartition("/")[0] for path in paths})) == (1000, 1)
        paths = Plan(files=20_000, size=1, locations=100, topics=1, minutes=6).paths(now=NOON)
        assert (len(set(paths)), len({path.rpartition("/")[0] for path in paths})) == (20_000, 2000)

    @pytest.mark.parametrize("size", [0, 1, 15, 4096, BLOCK, BLOCK + 7, 2 * BLOCK + 1])
    def test_content_has_the_size_that_was_planned(self, size: int) -> None:
        """A file holds as many bytes as the plan says, whatever that is in blocks."""
        assert sum(map(len, Plan(files=1, size=size).blocks(0))) == size

    def test_no_two_files_are_the_same(self) -> None:
        """A file that arrived under another's key is seen."""
        plan = Plan(files=3, size=4096)
        assert len({b"".join(plan.blocks(number)) for number in range(3)}) == 3

    def test_digests_of_a_file_in_pieces(self) -> None:
        """Pieces of any size are digested as what they are, across blocks too."""
        plan = Plan(files=2, size=2 * BLOCK + 10)
        whole = b"".join(plan.blocks(1))
        sizes = (BLOCK - 1, 3, BLOCK + 8)
        expected, first = [], 0
        for size in sizes:
            expected.append((size, hashlib.md5(whole[first : first + size]).hexdigest()))
            first += size
        assert plan.arrives_as(1, sizes) == tuple(expected)

    @pytest.mark.parametrize("size", [4096, BLOCK])
    def test_files_are_made_again_after_they_were_deleted(self, tmp_path: Path, size: int) -> None:
        """Every run finds the same files, large ones too, which are links."""
        spool = Spool(str(tmp_path))
        plan = Plan(files=3, size=size)
        for _ in range(2):
            paths = spool.make(plan)
            assert spool.left() == 3
            for number, path in enumerate(paths):
                file = Path(spool.path, path)
                assert file.read_bytes() == b"".join(plan.blocks(number))
                file.unlink()
            assert spool.left() == 0


class TestArrival:
    PLAN = Plan(files=2, size=4096)
    KEYS = ("a", "b")

    def arrived(self) -> dict[str, Pieces]:
        """What is there when all went well."""
        return {key: self.PLAN.arrives_as(number, (4096,)) for number, key in enumerate(self.KEYS)}

    def problem(self, arrived: dict[str, Pieces]) -> str:
        """What is found to be wrong."""
        return missing_or_wrong(arrived, expected=self.KEYS, size=self.PLAN.size, arrives_as=self.PLAN.arrives_as)

    def test_whole_files_are_accepted(self) -> None:
        """All files whole, in one piece or in parts: nothing is wrong."""
        assert self.problem(self.arrived()) == ""
        assert self.problem(self.arrived() | {"b": self.PLAN.arrives_as(1, (4000, 96))}) == ""

    def test_what_is_wrong_is_named(self) -> None:
        """A missing, a foreign, a short, a swapped and a damaged file are each found."""
        arrived = self.arrived()
        assert "1 of 2 files did not arrive, b" in self.problem({"a": arrived["a"]})
        assert "nobody sent" in self.problem(arrived | {"c": arrived["a"]})
        assert "4095 of 4096 bytes" in self.problem(arrived | {"b": self.PLAN.arrives_as(1, (4095,))})
        assert "other content" in self.problem({"a": arrived["b"], "b": arrived["a"]})
        assert "other content" in self.problem(arrived | {"a": ((4096, "0" * 32),)})
        swapped = tuple(reversed(self.PLAN.arrives_as(0, (4000, 96))))
        assert "other content" in self.problem(arrived | {"a": swapped})


class TestSummary:
    def test_medians(self) -> None:
        """One slow round does not move the figure."""
        assert summarize("x", "", [run(1.0), run(9.0), run(2.0)]).seconds == 2.0

    def test_one_bad_run_spoils_the_row(self) -> None:
        """Whoever loses a file in one round of five has no figure."""
        spoiled = summarize("x", "", [run(1.0), run(1.0, problem="1 file is missing")])
        assert (spoiled.problem, spoiled.seconds) == ("1 file is missing", 0.0)
        assert summarize("x", "", []).problem

    def test_a_goal_is_held_against_the_best_of_those_it_names(self) -> None:
        """The fastest variant counts, whoever is not named and whoever failed does not."""
        rivals = {
            each.label: each
            for each in (
                row("rclone move, default", 4.0),
                row("rclone move, tuned", 2.0),
                row("s5cmd mv, tuned", 0.1, problem="lost a file"),
                row("aws s3 mv, default", 1.0),
            )
        }
        goal = Goal(measure="seconds", limit=0.9, against=("rclone move", "s5cmd mv"))
        verdict = judge(goal, row("ours", 1.0), rivals)
        assert (verdict.rival, verdict.measured, verdict.reached) == ("rclone move, tuned", 0.5, True)
        assert not judge(goal, row("ours", 1.9), rivals).reached

    def test_what_was_not_measured_is_not_reached(self) -> None:
        """Without ours, or without a rival, there is no verdict."""
        goal = Goal(measure="cpu", limit=2.0, against=("rclone move",))
        assert judge(goal, None, {}).measured is None
        assert judge(goal, row("ours", 1.0, problem="lost"), {}).measured is None
        assert not judge(goal, row("ours", 1.0), {}).reached

    def test_a_goal_can_be_a_figure_or_another_case(self) -> None:
        """Memory has a limit of its own; the cost of a file is held against that of another case."""
        assert judge(Goal(measure="peak", limit=80e6), row("ours", 1.0), {}).reached
        goal = Goal(measure="cpu", limit=1.3, per_file_of="few")
        few = of_one_file(row("ours", 1.0, cpu=10.0), 10)
        assert judge(goal, of_one_file(row("ours", 1.0, cpu=120.0), 100), {"few": few}).measured == 1.2

    def test_slow_ones_take_part_twice(self) -> None:
        """A contestant that takes long does not make the benchmark take all day."""
        assert rounds_for(5, first_took=19.0, patience=20.0) == 5
        assert rounds_for(5, first_took=21.0, patience=20.0) == 1
        assert rounds_for(1, first_took=21.0, patience=20.0) == 1


class TestContestants:
    @pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
    def test_labels_tell_contestants_apart(self, case: Case) -> None:
        """Ours in its default takes part in every case, nobody twice, and goals name somebody who is there."""
        labels = [label(each) for each in case.contestants]
        assert len(set(labels)) == len(labels)
        assert label(Ours()) in labels
        for goal in case.goals:
            assert all(any(name.startswith(prefix) for name in labels) for prefix in goal.against)
            assert goal.per_file_of in ("", *(other.name for other in CASES))
        if case.plan.fresh:
            assert all(each.leaves_fresh for each in case.contestants)

    @pytest.mark.parametrize("contestant", [Ours(), Rclone(), S5cmd(), AwsCli(settings=("a = 1",)), Loop()], ids=label)
    def test_commands_name_the_spool_and_the_bucket(self, contestant: Contestant, tmp_path: Path) -> None:
        """Each is told what to empty, and where to."""
        endpoint = S3Endpoint(endpoint_url="http://127.0.0.1:1", access_key="", secret_key="", bucket="the-bucket")
        command = contestant.command(Job(spool="/the/spool", state=str(tmp_path), endpoint=endpoint))
        said = " ".join(command.arguments) + "".join(path.read_text() for path in tmp_path.iterdir())
        assert "/the/spool" in said
        assert "the-bucket" in said
        assert contestant.accepts(0, files=1)
        assert not contestant.accepts(1, files=1)

    def test_rclone_is_told_to_leave_fresh_files(self, tmp_path: Path) -> None:
        """The tick with fresh files asks the same of everybody."""
        endpoint = S3Endpoint(endpoint_url="http://127.0.0.1:1", access_key="", secret_key="", bucket="b")
        job = Job(spool="/s", state=str(tmp_path), endpoint=endpoint, fresh_seconds=10)
        assert "--min-age 10s" in " ".join(Rclone().command(job).arguments)
        assert Loop().command(job).arguments[-1] == "10"


class TestLauncher:
    def test_what_a_command_takes_is_its_own(self, tmp_path: Path) -> None:
        """Time, CPU time, peak memory and exit code are those of the command."""
        script = "import sys; data = bytearray(100_000_000); print('said'); sys.exit(3)"
        output = tmp_path / "output"
        said = subprocess.run(
            [sys.executable, "-I", "-S", launch.__file__, output, sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        took = json.loads(said)
        assert took["code"] == 3
        assert took["peak"] >= 100_000_000
        assert took["cpu"] > 0
        assert took["seconds"] > 0
        assert output.read_text() == "said\n"

    def test_peak_memory_is_not_inherited(self, tmp_path: Path) -> None:
        """A small command seems small, however large the one is that measures it."""
        ballast = bytearray(200_000_000)
        said = subprocess.run(
            [sys.executable, "-I", "-S", launch.__file__, tmp_path / "output", "/bin/true"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert json.loads(said)["peak"] < len(ballast) // 4


class TestMachine:
    def test_the_share_of_others_is_what_is_left(self) -> None:
        """What the machine did, less what the benchmark and its sink did."""
        import os

        processors = os.cpu_count() or 1
        share = Busy(10.0 + processors, 5.5).others_since(Busy(10.0, 5.0), 1.0)
        assert share == pytest.approx((processors - 0.5) / processors)
        assert Busy(1.0, 5.0).others_since(Busy(1.0, 4.0), 1.0) == 0.0
        assert Busy.now([]).machine > 0


class TestQuick:
    def test_growth_by_half_is_the_limit(self) -> None:
        """It fails when a file costs more than half as much again as it did, and says what to do."""
        baseline = quick.Baseline(cpu_ratio=0.2)
        assert quick.verdict(0.29, baseline)[0]
        good, sentence = quick.verdict(0.31, baseline)
        assert not good
        assert "--save-baseline" in sentence

    def test_only_runs_that_did_their_work_count(self) -> None:
        """The ratio is that of medians; a run that lost a file has none."""
        ours = [run(1.0, cpu=cpu) for cpu in (1.0, 2.0, 9.0)]
        loop = [run(1.0, cpu=cpu) for cpu in (10.0, 8.0, 90.0)]
        assert quick.cpu_ratio(ours, loop) == 0.2
        with pytest.raises(ValueError, match="lost"):
            quick.cpu_ratio(ours, [*loop, run(1.0, problem="lost a file")])

    def test_the_committed_figure_can_be_read(self) -> None:
        """There is a baseline, and it is a share."""
        assert 0 < quick.load_baseline().cpu_ratio < 1


class TestPage:
    RESULTS = Results(
        note="On a quiet evening.",
        cases=[
            CaseResult(
                name="small",
                title="some <small> files",
                files=100,
                total_bytes=409_600,
                per_file=True,
                measured_at="2026-11-20 12:00 UTC",
                machine={"processor": "2 x fast"},
                versions={"rclone": "1.75"},
                others=0.3,
                rows=[
                    row("s3_uploader, default", 2.0),
                    row("rclone move, tuned", 4.0, cpu=3.0),
                    row("s5cmd mv, tuned", 0.0, problem="3 files are left in the spool"),
                ],
                goals=[Goal(measure="seconds", limit=0.9, against=("rclone move",))],
                skipped={"aws s3 mv": "pip could not install awscli"},
                runs={"s3_uploader, default": [run(2.0)]},
            )
        ],
    )

    def test_the_page_says_everything(self) -> None:
        """Figures, ratios, flags, goals, who failed and who was not there, and that the machine was shared."""
        page = table.markdown(self.RESULTS, chart="chart.svg")
        assert "| rclone move, tuned | 25 | 0 | 4.00 | 2.00 | 30.000 | 3.00 | 50 | 1 |" in page
        assert "**s3_uploader, default** | 50 |" in page
        assert "does not count: 3 files are left in the spool" in page
        assert "skipped: pip could not install awscli" in page
        assert "wall time against rclone move, tuned | 0.9 x | 0.50 x | reached" in page
        assert "other programs used 30%" in page
        assert "On a quiet evening." in page
        columns = {
            line.count("|") for line in page.splitlines() if line.startswith(("| rclone", "| **", "| aws", "| ---"))
        }
        assert len(columns) == 2, "the rows of each of the two tables have the same number of cells"

    def test_the_chart_is_an_image(self) -> None:
        """It is well-formed, has a bar for each who counts, and ours stands out."""
        image = ElementTree.fromstring(chart.svg(self.RESULTS))
        bars = [element.get("class") for element in image.iter("{http://www.w3.org/2000/svg}rect")]
        assert bars == ["ours", "other"]

    def test_results_are_kept(self, tmp_path: Path) -> None:
        """What is written is what is read, and a case that is measured again replaces itself only."""
        results.save(self.RESULTS, tmp_path / "results.json")
        read = results.load(tmp_path / "results.json")
        assert read == self.RESULTS
        again = read.with_case(read.cases[0], ["other", "small"])
        assert again == read
        assert results.load(tmp_path / "nothing.json").cases == []


class TestObjects:
    def test_every_operation_has_to_be_cheap(self) -> None:
        """One operation that takes more than it may is named, and spoils the verdict."""
        cheap = objects.Timing(operation="write", milliseconds={"s3_uploader": 0.2, "boto3": 1.4})
        dear = objects.Timing(operation="read", milliseconds={"s3_uploader": 0.5, "boto3": 1.4})
        good, table_of_one = objects.verdict([cheap])
        assert good
        assert "0.200 ms" in table_of_one
        good, sentences = objects.verdict([cheap, dear])
        assert not good
        assert sentences.endswith("More than 0.2 of what boto3 takes: read.")
