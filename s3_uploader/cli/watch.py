"""The work of ``watch``: the loop, with signals, file-system events, metrics and the service manager around it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec

from s3_uploader import config
from s3_uploader.cli.exit_codes import Form, guarded
from s3_uploader.cli.run import raise_descriptor_limit, stop_on_signals
from s3_uploader.cli.settings import load
from s3_uploader.core.events import Notice
from s3_uploader.inspection.preview import measured_before
from s3_uploader.monitoring.log import Log, Verbosity
from s3_uploader.monitoring.monitor import Monitoring
from s3_uploader.run import assembly
from s3_uploader.service.inotify import file_system_events
from s3_uploader.service.sd_notify import ServiceManager
from s3_uploader.service.watch import SaysOnce, Wakeup, Watch

if TYPE_CHECKING:
    from s3_uploader.monitoring.metrics.server import MetricsServer


class WatchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about a watch."""

    interval: float
    json_log: bool = False
    verbosity: Verbosity = Verbosity.NORMAL
    simulate_failures: float = 0.0
    metrics_listen: str | None = None


def watch(config_file: str, options: WatchOptions) -> int:
    """Watch until told to stop; returns the exit code."""
    form = Form.LOG if options.json_log else Form.TEXT
    return guarded(lambda: _watch(config_file, options), form=form)


def _watch(config_file: str, options: WatchOptions) -> int:
    raise_descriptor_limit()
    manager = ServiceManager.of(os.environ, pid=os.getpid())
    log = Log(sys.stderr, json=options.json_log, verbosity=options.verbosity)
    monitoring = Monitoring(notice=SaysOnce(log), log=log, watch_interval=options.interval)
    watches: list[Watch] = []
    server = None if options.metrics_listen is None else _server(options.metrics_listen, monitoring)

    def beat() -> None:
        manager.beat()
        log.flush_if_due()
        monitoring.beat()

    def reload() -> None:
        for each in watches:
            each.reload()

    def configured(configuration: config.Config) -> None:
        monitoring.configure(
            metrics_file=configuration.metrics_file,
            ping_url=configuration.ping_url,
            base_dir=configuration.base_dir,
            before=lambda: measured_before(configuration),
        )
        log.flush()
        manager.ready()

    with log, stop_on_signals(on_hangup=reload) as stop:
        loop = Watch(
            lambda: load(config_file),
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
            configured=configured,
            make_store=assembly.store_maker(options.simulate_failures),
            is_rehearsal=options.simulate_failures > 0,
        )
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
            if server is not None:
                server.close()


def _server(address: str, monitoring: Monitoring) -> MetricsServer:
    from s3_uploader.monitoring.metrics.server import MetricsServer, parse_address

    live = monitoring.live()
    return MetricsServer(parse_address(address), metrics=live.text, seconds_since_beat=lambda: live.seconds_since_beat)
