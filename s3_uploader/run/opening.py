"""Opens a store within the run's time: connecting and a remote lock take time."""

from __future__ import annotations

import threading
from collections.abc import Callable

from s3_uploader.stores.base import Store

_LOOK_SECONDS = 0.1


def open_store(store: Store, *, must_end: Callable[[], bool], beat: Callable[[], None]) -> bool:
    """Open ``store``; returns ``False`` if the run had to end meanwhile. The store must then still be closed.

    :param must_end: whether the run has to end; called several times a second.
    :param beat: heartbeat, called as often.
    :raises Exception: what :meth:`Store.open` raises.
    """
    raised: list[BaseException] = []
    is_over = threading.Event()

    def work() -> None:
        try:
            store.open()
        except BaseException as error:
            raised.append(error)
        finally:
            is_over.set()

    thread = threading.Thread(target=work, name="open-store", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # There may be no further thread; then it is done here.
        store.open()
        return True
    while not is_over.wait(_LOOK_SECONDS):
        beat()
        if must_end():
            return False
    if raised:
        raise raised[0]
    return True
