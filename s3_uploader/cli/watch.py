"""The work of ``watch``: the loop, with signals, file-system events, metrics and the service manager around it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from s3_uploader import config
from s3_uploader.cli import terminal
from s3_uploader.cli.arguments import WatchOptions
from s3_uploader.cli.frame import guarded, load
from s3_uploader.cli.names import Form
from s3_uploader.cli.run import stop_on_signals, tell_of_share
from s3_uploader.config.loading import resolved
from s3_uploader.config.share import share_name
from s3_uploader.core.control import StopRequest
from s3_uploader.core.errors import ConfigError, StateError, UsageProblem
from s3_uploader.core.events import Notice
from s3_uploader.core.text import shown_name
from s3_uploader.health.telling import SaysOnce
from s3_uploader.inspection.preview import measured_before
from s3_uploader.ledger.state_directory import create_state_directory, own_state_directory
from s3_uploader.monitoring.log import Log
from s3_uploader.monitoring.monitor import Monitoring
from s3_uploader.run.special_stores import store_maker
from s3_uploader.service.inotify import file_system_events
from s3_uploader.service.sd_notify import ServiceManager
from s3_uploader.service.watch import Wakeup, Watch
from s3_uploader.spool import watcher

if TYPE_CHECKING:
    from s3_uploader.monitoring.metrics.server import MetricsServer


class Manager(Protocol):
    """What started the watch and is told its state: a service manager, or the process that supervises many spools."""

    def reloading(self) -> None:
        """The configuration is being reloaded."""

    def stopping(self) -> None:
        """The watch is stopping."""

    def status(self, text: str) -> None:
        """Report the state in one line."""

    def beat(self) -> None:
        """Report a heartbeat."""


def watch(config_file: str, options: WatchOptions) -> int:
    """Watch one spool until told to stop; returns the exit code."""
    return guarded(lambda: _watch(config_file, options), form=Form.LOG if options.json_log else Form.TEXT)


def _watch(config_file: str, options: WatchOptions) -> int:
    log = log_of(options)
    watches: list[Watch] = []

    def reload() -> None:
        for each in watches:
            each.reload()

    with log, stop_on_signals(on_hangup=reload) as stop:
        manager = ServiceManager.of(os.environ, pid=os.getpid())
        by_hand = [terminal.has_terminal()]

        def configured(configuration: config.Config) -> None:
            if by_hand.pop() if by_hand else False:
                log(Notice("info", first_line(f"{shown_name(configuration.base_dir)} for files to ship")))
                log.flush()
            manager.ready()

        return watch_one(
            config_file, options, log=log, stop=stop, manager=manager, configured=configured, watches=watches
        )


def watch_one(
    config_file: str,
    options: WatchOptions,
    *,
    log: Log,
    stop: StopRequest,
    manager: Manager,
    configured: Callable[[config.Config], None],
    watches: list[Watch],
) -> int:
    """Watch one spool; returns the exit code.

    :param configured: called with each configuration when it takes effect.
    :param watches: gets the loop, so that the caller can reload it.
    """
    monitoring = Monitoring(notice=SaysOnce(log), log=log, stop=stop, watch_interval=options.interval)
    server = None if options.metrics_listen is None else _server(options.metrics_listen, monitoring)
    withdraw: list[Callable[[], None]] = []

    def begin(configuration: config.Config) -> None:
        while withdraw:
            withdraw.pop()()
        withdraw.append(_announce(configuration, interval=options.interval))
        monitoring.configure(
            metrics_file=configuration.metrics_file,
            ping_url=configuration.ping_url,
            base_dir=configuration.base_dir,
            share=share_name(configuration),
            before=lambda: measured_before(configuration),
        )
        log.flush()
        configured(configuration)

    loop = _loop(config_file, options, log=log, stop=stop, manager=manager, monitoring=monitoring, begin=begin)
    watches.append(loop)
    stop.subscribe(manager.stopping)
    if server is not None:
        server.start()
        log(Notice("info", f"Metrics are served at {server.url}."))
        log.flush()
    try:
        return loop.run()
    finally:
        monitoring.close()
        while withdraw:
            withdraw.pop()()
        if server is not None:
            server.close()


def _loop(
    config_file: str,
    options: WatchOptions,
    *,
    log: Log,
    stop: StopRequest,
    manager: Manager,
    monitoring: Monitoring,
    begin: Callable[[config.Config], None],
) -> Watch:
    def beat() -> None:
        manager.beat()
        log.flush_if_due()
        monitoring.beat()

    def configured_share() -> config.Config:
        given = load(config_file, options)
        try:
            configuration = resolved(given)
        except UsageProblem as problem:
            raise ConfigError(config_file, [f"share: {problem}"]) from None
        tell_of_share(given, configuration, log)
        return configuration

    return Watch(
        configured_share,
        emit=log,
        monitor=monitoring,
        measure=monitoring.measure,
        stop=stop,
        wakeup=Wakeup(),
        interval=options.interval,
        events=file_system_events,
        status=manager.status,
        beat=beat,
        reloading=manager.reloading,
        configured=begin,
        make_store=store_maker(options.simulate_failures),
        is_rehearsal=options.simulate_failures > 0,
    )


def first_line(what: str) -> str:
    """The first line for a person who started it by hand: what is watched, and how to stop it."""
    if terminal.is_in_foreground():
        return f"Watching {what}, until Ctrl-C."
    return f"Watching {what}, until it is told to stop: kill {os.getpid()}"


def _announce(configuration: config.Config, *, interval: float) -> Callable[[], None]:
    """Tell ``status`` between two passes that the spool is watched."""
    try:
        state_dir = own_state_directory(configuration, environ=os.environ)
        create_state_directory(state_dir)
    except StateError:  # each pass says so
        return lambda: None
    return watcher.announce(state_dir, interval=interval)


def log_of(options: WatchOptions) -> Log:
    """Make the log that the options ask for."""
    return Log(sys.stderr, json=options.json_log, verbosity=options.verbosity)


def _server(address: str, monitoring: Monitoring) -> MetricsServer:
    from s3_uploader.monitoring.metrics.server import MetricsServer, parse_address

    live = monitoring.live()
    return MetricsServer(parse_address(address), metrics=live.text, seconds_since_beat=lambda: live.seconds_since_beat)
