"""The benchmarks from the command line.

python -m benchmarks                                 every case; writes benchmarks/results/
python -m benchmarks --cases small,tick-6            these cases only; the results of the others are kept
python -m benchmarks --against REVISION --contestants s3_up   what a change has made faster or slower
python -m benchmarks --scale 0.1 --output DIRECTORY  a rehearsal with a tenth of the files
python -m benchmarks quick                           fails when a file costs much more CPU than it used to
python -m benchmarks objects                         the object API against boto3, and obstore where it is installed
"""

from __future__ import annotations

import argparse
import datetime
import signal
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import chart, contestants, machine, objects, peers, quick, results, table
from benchmarks.cases import CASES, Case
from benchmarks.contestants import EARLIER, Contestant, Ours, label
from benchmarks.measure import Bench
from benchmarks.results import CaseResult
from benchmarks.summary import Run, rounds_for, summarize
from tests.servers.debian import Unavailable
from tests.servers.nginx_sink import NginxSink

UNAVAILABLE = 69
"""``EX_UNAVAILABLE`` of ``sysexits.h``: this machine has no nginx with Lua."""
_PATIENCE_SECONDS = 20.0
_RESULTS = Path(__file__).with_name("results")
_CHART = "wall-time.svg"


def main() -> int:
    """Do what the command line says."""
    arguments = _parser().parse_args()
    # So that the program that is being measured, the sink and the spool are cleaned up as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        with NginxSink() as sink, tempfile.TemporaryDirectory(prefix="s3u-bench-", dir=arguments.place) as place:
            if arguments.command == "quick":
                return _quick(sink, place, save_baseline=arguments.save_baseline)
            if arguments.command == "objects":
                good, sentences = objects.verdict(objects.measure(sink.endpoint, Path(place)))
                print(sentences)
                return 0 if good else 1
            return _everything(sink, place, arguments)
    except Unavailable as missing:
        print(missing, file=sys.stderr)
        return UNAVAILABLE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(case.name for case in CASES)
    parser.add_argument("command", nargs="?", choices=["all", "quick", "objects"], default="all")
    parser.add_argument("--cases", help=f"some of: {names}")
    parser.add_argument("--contestants", help="only those whose label contains one of these words, e.g. rclone,s3_up")
    parser.add_argument("--rounds", type=int, help="so many rounds of each case")
    parser.add_argument("--against", metavar="REVISION", help="let what this program was at a revision take part")
    parser.add_argument(
        "--python",
        default=peers.system_python(),
        help="the interpreter of this program and of the loops in Python (default: the system's, %(default)s)",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the files")
    parser.add_argument("--note", default="", help="a sentence about the circumstances, for the results")
    parser.add_argument("--output", type=Path, default=_RESULTS, help="directory of the results")
    parser.add_argument("--place", help="directory, on the disk that is to be measured, for the spools")
    parser.add_argument("--save-baseline", action="store_true", help="quick: make the figure the committed one")
    return parser


def _quick(sink: NginxSink, place: str, *, save_baseline: bool) -> int:
    bench = Bench(sink, place, contestants.beside_us())
    try:
        measured = quick.cpu_ratio(*quick.measure(bench))
    except ValueError as problem:
        print(f"A run did not do its work: {problem}", file=sys.stderr)
        return 1
    if save_baseline:
        quick.save_baseline(measured)
    good, sentence = quick.verdict(measured, quick.load_baseline())
    print(sentence)
    return 0 if good else 1


def _everything(sink: NginxSink, place: str, arguments: argparse.Namespace) -> int:
    wanted = arguments.cases.split(",") if arguments.cases else [case.name for case in CASES]
    unknown = set(wanted) - {case.name for case in CASES}
    if unknown:
        print(f"no such case: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    found, skipped = peers.install()
    programs = {**found, **peers.install_ours(Path(place) / "ours", python=arguments.python)}
    if arguments.against:
        earlier = Path(place) / "earlier"
        programs |= peers.install_revision(arguments.against, earlier, python=arguments.python)
    bench = Bench(sink, place, programs)
    versions = peers.versions(programs)
    arguments.output.mkdir(parents=True, exist_ok=True)
    everything = results.load(arguments.output / "results.json")
    everything = replace(everything, note=arguments.note or everything.note)
    for case in CASES:
        if case.name not in wanted:
            continue
        case = _adapted(case, arguments)
        everything = everything.with_case(_measured(bench, case, versions, skipped), [each.name for each in CASES])
        # After each case, so that an interrupted run has not been for nothing.
        results.save(everything, arguments.output / "results.json")
        (arguments.output / "README.md").write_text(table.markdown(everything, chart=_CHART), encoding="utf-8")
        (arguments.output / _CHART).write_text(chart.svg(everything), encoding="utf-8")
    print(table.markdown(everything, chart=_CHART))
    return 0


def _adapted(case: Case, arguments: argparse.Namespace) -> Case:
    """The case as the command line wants it."""
    words = arguments.contestants.split(",") if arguments.contestants else [""]
    earlier = [replace(each, name=EARLIER) for each in case.contestants if isinstance(each, Ours)]
    everybody = [*case.contestants, *(earlier if arguments.against else [])]
    taking_part = [each for each in everybody if any(word in label(each) for word in words)]
    files = case.plan.files and max(1, round(case.plan.files * arguments.scale))
    return replace(
        case,
        plan=replace(case.plan, files=files),
        title=case.title if arguments.scale == 1 else f"{case.title} x {arguments.scale:g}",
        rounds=arguments.rounds or case.rounds,
        contestants=taking_part,
    )


def _measured(bench: Bench, case: Case, versions: dict[str, str], skipped: dict[str, str]) -> CaseResult:
    taking_part = [each for each in case.contestants if bench.has(each)]
    runs: dict[str, list[Run]] = {label(each): [] for each in taking_part}
    for round_number in range(case.rounds):
        # Nobody always comes behind the same one.
        turn = round_number % len(taking_part) if taking_part else 0
        for contestant in taking_part[turn:] + taking_part[:turn]:
            _take_turn(bench, case, contestant, round_number, runs[label(contestant)])
    for contestant in taking_part:
        bench.forget_state(_state(case, contestant))
    rows = [summarize(label(each), each.flags, runs[label(each)]) for each in taking_part]
    return CaseResult(
        name=case.name,
        title=case.title,
        files=case.plan.files,
        total_bytes=0 if case.plan.fresh else case.plan.total_bytes,
        per_file=case.per_file,
        measured_at=datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        machine=machine.describe(),
        versions=versions,
        others=statistics.median([run.others for each in runs.values() for run in each] or [0.0]),
        rows=rows,
        goals=list(case.goals),
        skipped={name: why for name, why in skipped.items() if name in {each.name for each in case.contestants}},
        runs=runs,
    )


def _take_turn(bench: Bench, case: Case, contestant: Contestant, round_number: int, so_far: list[Run]) -> None:
    first_took = so_far[0].seconds if so_far else 0.0
    spoiled = any(run.problem for run in so_far)
    if spoiled or round_number >= rounds_for(case.rounds, first_took=first_took, patience=_PATIENCE_SECONDS):
        return
    run = bench.run(contestant, case.plan, case.line, keep_state_as=_state(case, contestant))
    so_far.append(run)
    print(
        f"{case.name} {round_number + 1}/{case.rounds} {label(contestant)}: {run.seconds:.3f} s, {run.cpu:.3f} s CPU, "
        f"{run.peak / 1e6:.0f} MB, others {run.others:.0%}{', does not count' if run.problem else ''}",
        file=sys.stderr,
        flush=True,
    )


def _state(case: Case, contestant: Contestant) -> str:
    return f"{case.name} {label(contestant)}".replace("/", "-").replace(" ", "-")


if __name__ == "__main__":
    sys.exit(main())
