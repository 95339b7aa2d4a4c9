"""The work of ``watch`` for several configurations: the supervising process, and the process of each."""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Sequence

from s3_uploader.cli import terminal
from s3_uploader.cli.arguments import WatchOptions
from s3_uploader.cli.directory import Named, files_of, refuse_shared
from s3_uploader.cli.exit_codes import SOME_FAILED
from s3_uploader.cli.frame import guarded, load, together
from s3_uploader.cli.names import Form
from s3_uploader.cli.run import stop_on_signals
from s3_uploader.cli.watch import first_line, log_of, watch_one
from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import UploaderError, UsageProblem
from s3_uploader.core.events import Event, Notice
from s3_uploader.core.text import counted, names_of
from s3_uploader.monitoring.log import Log
from s3_uploader.monitoring.said_by_any import SaidByAny
from s3_uploader.service.link import Link
from s3_uploader.service.loading import REPLACED, load_program
from s3_uploader.service.sd_notify import ServiceManager
from s3_uploader.service.supervisor import Supervisor
from s3_uploader.service.watch import Watch

_PIECE = 4096
"""Bytes that are written to a pipe, a terminal or the journal in one piece (``PIPE_BUF``)."""


class _Link:
    """Sends the state of a watch to the supervising process, with the methods of a service manager."""

    def __init__(self, link: Link) -> None:
        self.status = link.status
        self.beat = link.beat

    def reloading(self) -> None:
        """Nothing to send: the supervising process has asked for it."""

    def stopping(self) -> None:
        """Nothing to send, for the same reason."""


class _LogOfOne(Log):
    """The log of one process. What another process has reported, of the same server or of this program, is left out."""

    said: SaidByAny

    def __call__(self, event: Event) -> None:
        """Report an event."""
        if not (isinstance(event, Notice) and _is_of_all(event) and not self.said.is_news(event.message)):
            super().__call__(event)


def _is_of_all(notice: Notice) -> bool:
    return notice.is_of_endpoint or notice.message == REPLACED


def watch_many(config_files: Sequence[str], options: WatchOptions) -> int:
    """Watch all of them, until told to stop; returns the exit code."""
    form = Form.LOG if options.json_log else Form.TEXT
    return guarded(lambda: _watch(config_files, options, form), form=form)


def _watch(config_files: Sequence[str], options: WatchOptions, form: Form) -> int:
    if options.metrics_listen is not None:
        raise UsageProblem(
            "--metrics-listen is for one configuration file.", hint="Give each a metrics_file, or a watch of its own."
        )
    spools = counted(len(files_of(config_files)), "spool")
    log = log_of(options)
    manager = ServiceManager.of(os.environ, pid=os.getpid())
    supervisors: list[Supervisor] = []
    said = SaidByAny()

    of_all = options

    def usable() -> list[str]:
        nonlocal of_all
        paths = files_of(config_files)
        of_all = together(options, paths)
        found = _usable_together(paths, of_all, form)
        # All processes share the present objects, none of which is garbage.
        gc.collect()
        gc.freeze()
        return found

    def status(text: str) -> None:
        manager.status(text)
        log.flush()

    def beat() -> None:
        manager.beat()
        log.flush_if_due()

    def reload() -> None:
        manager.reloading()
        supervisors[0].reload()

    with log, stop_on_signals(on_hangup=lambda: reload() if supervisors else None) as stop:
        stop.subscribe(manager.stopping)
        if terminal.has_terminal():
            log(Notice("info", first_line(f"{spools} for files to ship, each in a process of its own")))
            log.flush()
        supervisor = Supervisor(
            usable,
            lambda path, name, link: _watch_in_its_process(path, name, link, of_all, said),
            emit=log,
            stop=stop,
            beat=beat,
            ready=manager.ready,
            status=status,
        )
        supervisors.append(supervisor)
        return supervisor.run()


def _usable_together(paths: Sequence[str], options: WatchOptions, form: Form) -> list[str]:
    """The files without those that conflict. A file that cannot be read is reported by its own process."""
    loaded = []
    unreadable = []
    for path, name in names_of(paths).items():
        try:
            loaded.append(Named(path, load(path, options), name))
        except UploaderError:
            unreadable.append(path)

    def refuse() -> int:
        refuse_shared(loaded, follow_links=False)
        return 0

    guarded(refuse, form=form)
    for config in {type(named.config.destination): named.config for named in loaded}.values():
        load_program(config)
    return sorted([*(named.path for named in loaded), *unreadable])


def _watch_in_its_process(path: str, name: str, link: Link, options: WatchOptions, said: SaidByAny) -> int:
    form = Form.LOG if options.json_log else Form.TEXT
    log = _LogOfOne(sys.stderr, json=options.json_log, verbosity=options.verbosity, name=name)
    log.said = said
    write = log.redirect(lambda text: None)

    def write_in_pieces(text: str) -> None:
        for piece in _pieces(text):
            write(piece)

    log.redirect(write_in_pieces)
    watches: list[Watch] = []

    def reload() -> None:
        for each in watches:
            each.reload()

    link.on_reload = reload
    start_thread(threading.Thread(target=link.listen, name="orders", daemon=True))

    def work() -> int:
        with log:
            return watch_one(
                path,
                options,
                log=log,
                stop=link.stop,
                manager=_Link(link),
                configured=lambda configuration: link.ready(drain_seconds=configuration.drain_seconds),
                watches=watches,
            )

    try:
        return guarded(work, form=form, name=name)
    except Exception as error:
        log(Notice("error", f"The watch ended with an error: {type(error).__name__}: {error}"))
        log.flush()
        return SOME_FAILED


def _pieces(text: str) -> list[str]:
    """Join lines into pieces that are written as a whole."""
    pieces = [""]
    for line in text.splitlines(keepends=True):
        if pieces[-1] and len((pieces[-1] + line).encode("utf-8", "replace")) > _PIECE:
            pieces.append("")
        pieces[-1] += line
    return pieces
