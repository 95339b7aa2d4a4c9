"""The work of ``watch``: the loop, with signals, file-system events, metrics and the service manager around it."""

from __future__ import annotations

import os
import sys

import msgspec

from s3_uploader import app, config
from s3_uploader.cli.failures import guarded
from s3_uploader.cli.running import raise_descriptor_limit, stop_on_signals, subscribers
from s3_uploader.reporting.log import Log, Verbosity
from s3_uploader.service_manager import ServiceManager
from s3_uploader.spool.notifications import file_system_events
from s3_uploader.watch import Wakeup, Watch


class WatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about a watch."""

    interval: float
    json_log: bool = False
    verbosity: Verbosity = Verbosity.NORMAL
    simulate_failures: float = 0.0


def watch(config_file: str, options: WatchOptions) -> int:
    """Watch until told to stop; returns the exit code."""
    return guarded(lambda: _watch(config_file, options))


def _watch(config_file: str, options: WatchOptions) -> int:
    configuration = config.load(config_file)
    raise_descriptor_limit()
    manager = _service_manager()
    log = Log(sys.stderr, json=options.json_log, verbosity=options.verbosity)
    wakeup = Wakeup()
    watches: list[Watch] = []

    def beat() -> None:
        manager.beat()
        log.flush_if_due()

    def reload() -> None:
        for each in watches:
            each.reload()

    with (
        log,
        stop_on_signals(on_hangup=reload) as stop,
        subscribers(configuration, log, progress=False) as emit,
    ):
        loop = Watch(
            lambda: config.load(config_file),
            emit=emit,
            stop=stop,
            wakeup=wakeup,
            interval=options.interval,
            events=file_system_events,
            status=manager.status,
            beat=beat,
            make_store=app.store_maker(options.simulate_failures),
            is_rehearsal=options.simulate_failures > 0,
        )
        watches.append(loop)
        stop.subscribe(lambda: manager.tell("STOPPING=1"))
        manager.tell("READY=1")
        return loop.run()


def _service_manager() -> ServiceManager:
    wants = os.environ.get("WATCHDOG_USEC", "")
    for_us = os.environ.get("WATCHDOG_PID") in (None, str(os.getpid()))
    return ServiceManager(
        os.environ.get("NOTIFY_SOCKET"),
        watchdog_seconds=int(wants) / 1e6 if wants.isdecimal() and for_us else None,
    )
