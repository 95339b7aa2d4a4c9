"""The uploader inside another program: one pass, or passes in the background until told to stop."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from s3_uploader import config
from s3_uploader.config import Config
from s3_uploader.config.anchoring import anchored
from s3_uploader.config.loading import resolved
from s3_uploader.config.share import share_name, unasked
from s3_uploader.core.control import StopRequest, start_thread
from s3_uploader.core.events import Emit, Notice, fan_out
from s3_uploader.core.model import RunReport
from s3_uploader.health.telling import SaysOnce
from s3_uploader.inspection.preview import measured_before
from s3_uploader.monitoring.logging_adapter import LoggingAdapter
from s3_uploader.monitoring.monitor import Monitoring, NoTail
from s3_uploader.run import run as app
from s3_uploader.run.context import RunContext
from s3_uploader.service.inotify import file_system_events
from s3_uploader.service.results import FileReporter, OnFile
from s3_uploader.service.watch import DEFAULT_INTERVAL, Wakeup, Watch

AnyConfig: TypeAlias = Config | Mapping[str, Any] | str | os.PathLike[str]
"""A configuration, a mapping with its keys (paths may be path objects), or the path of its file."""


def upload_once(configuration: AnyConfig, *, on_file: OnFile | None = None) -> RunReport:
    """Run one pass over the spool and return its report; ``exit_code`` is the one that the command would have.

    Events go to the logger ``s3_uploader``. No signal handler is installed. If one of the calling program raises an
    exception meanwhile, such as a time limit, the pass ends with that exception, and no file is lost. An ``OSError``
    (``TimeoutError`` is one) may be reported as the failure of a file instead: to avoid that, call this on another
    thread than the main one, where Python calls handlers, or use :func:`process`.

    :param on_file: called on this thread with the result of each file that was found.
    :raises s3_uploader.core.errors.ConfigError: with every problem of the configuration.
    :raises s3_uploader.core.errors.SpoolError: if the spool cannot be used.
    :raises s3_uploader.core.errors.StateError: if the ledger cannot be opened.
    """
    log = LoggingAdapter()
    loaded = _loaded(configuration, log)
    monitoring = Monitoring(notice=log, log=NoTail())
    monitoring.configure(
        metrics_file=loaded.metrics_file,
        ping_url=loaded.ping_url,
        base_dir=loaded.base_dir,
        share=share_name(loaded),
        before=lambda: measured_before(loaded),
    )
    try:
        return app.run_once(
            loaded,
            RunContext(
                emit=fan_out([log, monitoring, *_reporters(on_file)]),
                beat=monitoring.beat,
                measure=monitoring.measure if loaded.metrics_file or loaded.ping_url else None,
            ),
        )
    finally:
        monitoring.close()


def process(
    configuration: AnyConfig, *, interval: float = DEFAULT_INTERVAL, on_file: OnFile | None = None
) -> Callable[..., bool]:
    """Ship files in the background, as soon as they are ready, until told to stop.

    Works in daemon threads of the calling process; installs no signal handler and configures no logging (events go to
    the logger ``s3_uploader``). Do not fork while it runs. Relative paths are resolved once, when it is called.

    :param interval: seconds between two passes; file-system events start the next one earlier.
    :param on_file: called on a thread of the uploader with the result of each file that a pass found.
    :returns: a callable that stops the uploader: uploads in flight may finish within ``drain_seconds`` and are then
        cancelled. It returns ``True`` when everything has ended, or ``False`` after ``timeout`` seconds. Calling it
        again is harmless, from any thread.
    :raises s3_uploader.core.errors.ConfigError: with every problem of the configuration.
    """
    log = LoggingAdapter()
    loaded = _loaded(configuration, log)
    stop = StopRequest()
    monitoring = Monitoring(notice=SaysOnce(log), log=NoTail(), stop=stop, watch_interval=interval)
    watch = Watch(
        lambda: loaded,
        emit=fan_out([log, *_reporters(on_file, caught=BaseException)]),
        monitor=monitoring,
        measure=monitoring.measure,
        stop=stop,
        wakeup=Wakeup(),
        interval=interval,
        events=file_system_events,
        beat=monitoring.beat,
        configured=lambda config: monitoring.configure(
            metrics_file=config.metrics_file,
            ping_url=config.ping_url,
            base_dir=config.base_dir,
            share=share_name(config),
            before=lambda: measured_before(config),
        ),
    )

    def work() -> None:
        try:
            watch.run()
        finally:
            monitoring.close()

    thread = threading.Thread(target=work, name="s3_uploader", daemon=True)
    start_thread(thread)

    def stop_and_wait(timeout: float | None = None) -> bool:
        stop.request_first()
        if threading.current_thread() is thread:
            return False  # called by a handler of our own log records; the thread ends once that has returned
        thread.join(timeout)
        return not thread.is_alive()

    return stop_and_wait


def _reporters(on_file: OnFile | None, *, caught: type[BaseException] = Exception) -> list[Emit]:
    return [] if on_file is None else [FileReporter(on_file, caught=caught)]


def _plain(value: object) -> object:
    """Convert all path objects in a configuration to text."""
    if isinstance(value, os.PathLike):
        return os.fsdecode(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value


def _loaded(configuration: AnyConfig, emit: Emit) -> Config:
    if isinstance(configuration, Config):
        given = configuration
    elif isinstance(configuration, Mapping):
        keys = {name: _plain(value) for name, value in configuration.items()}
        given = config.from_mapping(keys, source="configuration")
    else:
        given = config.load(os.fspath(configuration))
    # The program may change its working directory at any time, but neither the spool nor where its files go.
    loaded = anchored(resolved(given))
    sentence = unasked(given, loaded)
    if sentence:
        emit(Notice("warning", sentence))
    return loaded
