"""File-system events: hints that something has appeared in the spool."""

from __future__ import annotations

import threading
from collections.abc import Callable

from s3_uploader.events import Emit, Notice
from s3_uploader.spool.layout import TAKEN_SUFFIX


def file_system_events(directory: str, wake: Callable[[], None], emit: Emit) -> Callable[[], None]:
    """Call ``wake`` whenever something appears or changes below ``directory``; returns what ends that.

    Without the library for it, without a directory, or without watches left, nothing is called and that is said.
    """
    try:
        import watchfiles
    except ImportError:
        emit(Notice("info", "watchfiles is not installed: new files are found by polling alone."))
        return lambda: None
    ended = threading.Event()

    def follow() -> None:
        while not ended.is_set():
            try:
                for _ in watchfiles.watch(
                    directory,
                    watch_filter=_is_news,
                    stop_event=ended,
                    debounce=50,
                    step=10,
                    rust_timeout=1000,
                    raise_interrupt=False,
                ):
                    wake()
            except (OSError, RuntimeError) as error:
                emit(
                    Notice("warning", f"There are no file-system events, new files are found by polling alone: {error}")
                )
            # The directory may have been unmounted and come back, watches may have become free.
            ended.wait(60.0)

    thread = threading.Thread(target=follow, name="s3_uploader-events", daemon=True)
    thread.start()

    def end() -> None:
        ended.set()
        thread.join(timeout=3.0)

    return end


def _is_news(change: object, path: str) -> bool:
    """Whether a change is a producer's: not a removal, and not one of our own steps."""
    return getattr(change, "name", "") != "deleted" and not path.endswith(TAKEN_SUFFIX)
