"""The work of ``run``: one pass over the spool, with log, progress bar, metrics and ping."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TextIO, cast

from s3_uploader.cli.frame import ShareOptions, guarded, load
from s3_uploader.cli.names import Form
from s3_uploader.config.loading import resolved
from s3_uploader.core.control import Clock, StopRequest
from s3_uploader.core.errors import StateError
from s3_uploader.core.events import Emit, Event, Measure, Notice, RunMeasured, fan_out
from s3_uploader.core.files import stream_writer
from s3_uploader.monitoring.log import Log, Verbosity
from s3_uploader.run import run as app
from s3_uploader.run.context import RunContext

if TYPE_CHECKING:
    from s3_uploader.cli import parameters as take
    from s3_uploader.config import Config
    from s3_uploader.monitoring.monitor import Monitoring
    from s3_uploader.run.context import MakeStore

_COUNTING_SECONDS = 2.0
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class RunOptions(ShareOptions, frozen=True, kw_only=True):
    """The options of ``run``; ``progress`` is ``None`` for a bar on a terminal only."""

    dry_run: take.DryRun = False
    progress: take.ShowProgress = None
    log_format: take.LogFormat = "text"
    verbose: take.Verbose = False
    quiet: take.Quiet = False
    max_runtime_seconds: take.MaxRuntime = None
    wait_for_lock_seconds: take.WaitForLock = 0.0
    retry: take.Retry = False
    simulate_failures: take.SimulateFailures = 0.0

    @property
    def json_log(self) -> bool:
        """Whether log lines are JSON."""
        return self.log_format == "json"

    @property
    def verbosity(self) -> Verbosity:
        """How much the log says."""
        return Verbosity.of(verbose=self.verbose, quiet=self.quiet)


def run(config_file: str, options: RunOptions, *others: str) -> int:
    """Run once; returns the exit code.

    :param others: more configuration files, or directories of them.
    """
    if others or os.path.isdir(config_file):
        return guarded(partial(_run_several, [config_file, *others], options), form=_form(options))
    return guarded(partial(_run, config_file, options), form=_form(options))


def _form(options: RunOptions) -> Form:
    if not options.json_log:
        return Form.TEXT
    # A dry run prints what it finds, and a run its log.
    return Form.JSON if options.dry_run else Form.LOG


def _run_several(config_files: Sequence[str], options: RunOptions) -> int:
    from s3_uploader.cli.directory import HUNG_SECONDS, Named, each_of, files_of, run_all
    from s3_uploader.monitoring.together import AboveBar, Together

    if options.dry_run:
        return each_of(
            files_of(config_files),
            options,
            _run,
            headings=not options.json_log,
            form=_form(options),
        )
    paths = files_of(config_files)
    spools = len(paths)
    bar = None
    if _wants_progress(options):
        from s3_uploader.monitoring.progress import SpoolsBar

        bar = SpoolsBar(total=spools)
    together = Together(spools=spools, bar=bar)
    real = sys.stderr
    with stop_on_signals() as stop:

        def run_one(named: Named, bytes_in_flight: int, alive: Callable[[], None]) -> int:
            if stop.requests:
                return 128 + (stop.signal_number or signal.SIGTERM)
            log = _log(options, name=named.name, explain_idle=False, stream=real)
            write = log.redirect(lambda text: None)
            log.redirect(lambda text: together.write(text, write))
            configuration = resolved(named.config)
            tell_of_share(named.config, configuration, log)
            return _run_loaded(
                configuration,
                options,
                log,
                stop,
                progress=False,
                bytes_in_flight=bytes_in_flight,
                around=together.around,
                alive=alive,
            )

        try:
            if bar is not None:
                sys.stderr = cast(TextIO, AboveBar(lambda text: together.write(text, stream_writer(real))))
            code = run_all(
                paths,
                options,
                run_one,
                form=_form(options),
                patience_seconds=HUNG_SECONDS + options.wait_for_lock_seconds,
            )
        finally:
            sys.stderr = real
            together.close()
        if together.is_worth_a_line or sys.stderr.isatty():
            with _log(options) as log:
                log(Notice("info", together.sentence()))
        return code


def _run(config_file: str, options: RunOptions) -> int:
    given = load(config_file, options)
    configuration = resolved(given)
    if options.dry_run:
        from s3_uploader.cli.dry_run import dry_run
        from s3_uploader.config.share import unasked

        if sentence := unasked(given, configuration):
            print(sentence, file=sys.stderr)
        return dry_run(configuration, as_json=options.json_log, retries=options.retry)
    with stop_on_signals() as stop:
        log = _log(options)
        tell_of_share(given, configuration, log)
        return _run_loaded(configuration, options, log, stop, progress=_wants_progress(options))


def tell_of_share(given: Config, configuration: Config, emit: Emit) -> None:
    """Warn about a run that ships a share of the files that nobody asked for."""
    if configuration is given:
        return
    from s3_uploader.config.share import unasked

    sentence = unasked(given, configuration)
    if sentence:
        emit(Notice("warning", sentence))


def _wants_progress(options: RunOptions) -> bool:
    return options.progress if options.progress is not None else sys.stderr.isatty() and not options.json_log


def _log(options: RunOptions, *, name: str = "", explain_idle: bool = True, stream: TextIO | None = None) -> Log:
    verbosity = options.verbosity
    if verbosity is Verbosity.NORMAL and not options.json_log and sys.stderr.isatty():
        # A person sees the bar; the lines are read in a file or a mail.
        verbosity = Verbosity.SUMMARY
    return Log(
        stream or sys.stderr,
        json=options.json_log,
        verbosity=verbosity,
        explain_idle=explain_idle and sys.stderr.isatty(),
        explain_exit_code=True,
        name=name,
    )


def _run_loaded(
    configuration: Config,
    options: RunOptions,
    log: Log,
    stop: StopRequest,
    *,
    progress: bool,
    bytes_in_flight: int | None = None,
    around: Callable[[Emit], Emit] | None = None,
    alive: Callable[[], None] | None = None,
) -> int:
    # A timer starts the runs, and whoever gets its mails need not read the same each minute.
    is_one_of_many = options.verbosity is Verbosity.QUIET and not sys.stderr.isatty()
    around_run = subscribers(configuration, log, stop, progress=progress, around=around, is_one_of_many=is_one_of_many)
    with log, around_run as (emit, measure, beat_of_log):
        report = app.run_once(
            configuration,
            RunContext(
                emit=emit,
                measure=measure,
                stop=stop,
                beat=beat_of_log if alive is None else _both(beat_of_log, alive),
                make_store=_store_maker(options, bytes_in_flight),
                is_rehearsal=options.simulate_failures > 0,
                retries=options.retry,
                # Of several spools each has its processor already.
                may_be_divided=bytes_in_flight is None,
                says_again=sys.stderr.isatty(),
                is_one_of_many=is_one_of_many,
            ),
            max_runtime_seconds=options.max_runtime_seconds,
            wait_for_lock_seconds=options.wait_for_lock_seconds,
        )
    return report.exit_code


def _store_maker(options: RunOptions, bytes_in_flight: int | None) -> MakeStore | None:
    """What makes the store, unless it is made in the usual way."""
    if not options.simulate_failures and bytes_in_flight is None:
        return None
    from s3_uploader.run.special_stores import store_maker

    return store_maker(options.simulate_failures, bytes_in_flight=bytes_in_flight)


@contextmanager
def subscribers(
    configuration: Config,
    log: Log,
    stop: StopRequest,
    *,
    progress: bool,
    around: Callable[[Emit], Emit] | None = None,
    is_one_of_many: bool = False,
) -> Iterator[tuple[Emit, Measure | None, Callable[[], None]]]:
    """The subscribers of a run: log (or progress bar with the log above it), metrics file and ping.

    And its heartbeat.

    :param is_one_of_many: see :class:`s3_uploader.run.context.RunContext`.
    """
    people: Emit = log if around is None else around(log)
    closers: list[Callable[[], None]] = []
    if progress:
        from s3_uploader.inspection.preview import count_ready

        expected = count_ready(configuration, clock=Clock(), seconds=_COUNTING_SECONDS)
        if expected is None or expected[0]:
            from s3_uploader.monitoring.progress import Progress

            bar = Progress(log)
            people = bar
            closers.append(bar.close)
            if expected is not None:
                bar.expect(files=expected[0], size=expected[1])
    measure: Measure | None = None
    beat = log.flush_if_due
    if configuration.metrics_file is not None or configuration.ping_url is not None:
        notice = _now_and_then(configuration, people) if is_one_of_many else people
        monitoring = _monitoring(configuration, log, stop, notice)
        closers.append(monitoring.close)
        measure = monitoring.measure
        people = fan_out([people, monitoring])
        if configuration.metrics_file is not None:
            beat = _both(log.flush_if_due, monitoring.beat)
    try:
        yield people, measure, beat
    finally:
        for close in reversed(closers):
            close()


def _now_and_then(configuration: Config, emit: Emit) -> Emit:
    """Leave out the trouble of monitoring that an earlier run has reported recently. The ledger is closed by then."""

    def tell(event: Event) -> None:
        if not isinstance(event, Notice) or not event.about or _is_due(configuration, event.about):
            emit(event)

    return tell


def _is_due(configuration: Config, name: str) -> bool:
    from s3_uploader.health.notes import is_due
    from s3_uploader.ledger.state_directory import own_state_directory

    try:
        return is_due(own_state_directory(configuration), name, Clock().now())
    except StateError:  # there is no place for it
        return True


def _monitoring(configuration: Config, log: Log, stop: StopRequest, notice: Emit) -> Monitoring:
    from s3_uploader.config.share import share_name
    from s3_uploader.monitoring.monitor import Monitoring

    def before() -> RunMeasured | None:
        from s3_uploader.inspection.preview import measured_before

        return measured_before(configuration)

    monitoring = Monitoring(notice=notice, log=log, stop=stop)
    monitoring.configure(
        metrics_file=configuration.metrics_file,
        ping_url=configuration.ping_url,
        base_dir=configuration.base_dir,
        share=share_name(configuration),
        before=before,
    )
    return monitoring


def _both(first: Callable[[], None], second: Callable[[], None]) -> Callable[[], None]:
    def call() -> None:
        first()
        second()

    return call


@contextmanager
def stop_on_signals(*, on_hangup: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Turn the signals that end a program into a request to stop in good order.

    :param on_hangup: called for SIGHUP instead, unless the signal means that the terminal was closed.
    """
    stop = StopRequest()
    before = {number: signal.getsignal(number) for number in _STOPS}

    if on_hangup is not None:
        from s3_uploader.cli import terminal

        has_lost_terminal = terminal.watched()

    def handle(number: int, frame: object) -> None:
        if number == signal.SIGHUP and on_hangup is not None and not has_lost_terminal():
            on_hangup()
        else:
            stop.request(number)

    for number in _STOPS:
        # As nohup expects, a signal that was ignored at the start stays ignored.
        if before[number] is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            # Once the end was asked for, one more signal must not change how the program ends.
            signal.signal(number, signal.SIG_IGN if stop.requests else handler)
