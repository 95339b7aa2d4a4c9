"""Prepares the process: standard streams, UTF-8 for the names of files, and imports that start quickly."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import typing
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

from s3_uploader.core.files import raise_limit
from s3_uploader.core.text import names_are_utf8

_UNUSED_OF_MSGSPEC = ("msgspec.inspect", "msgspec.msgpack", "msgspec.toml", "msgspec.yaml")
_STARTED_ANEW = "_S3_UPLOADER_STARTED_ANEW"
"""Set in the environment when the program restarts itself: the encoding of its output."""


def prepare() -> None:
    """Prepare the process. To be called once, before anything is opened; may restart the program once."""
    _put_off_names_of_signals()
    _end_when_interrupted()
    _open_standard_streams()
    raise_limit()
    encoding = os.environ.pop(_STARTED_ANEW, "")
    if encoding:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding=encoding, errors="backslashreplace")
    elif not names_are_utf8():
        # In another encoding "größe" would arrive as other bytes: a key in S3 is UTF-8, and so is the name on the disk.
        _start_anew_in_utf8()
    _import_quickly()
    _put_off_logging()


def _put_off_names_of_signals() -> None:
    """Let ``signal`` be the C module beneath it: most of what the other one does is to give each number a name."""
    if "signal" not in sys.modules:
        later = _Later("signal")
        vars(later).update((name, value) for name, value in vars(__import__("_signal")).items() if name[0] != "_")
        sys.modules["signal"] = later


def _end_when_interrupted() -> None:
    """Let Ctrl-C end the program at once, as long as it only imports modules: an exception would be lost in some."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where it is ignored, as nohup expects
        signal.signal(signal.SIGINT, _end)


def raise_interruptions() -> None:
    """Let Ctrl-C be an exception again."""
    import signal

    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    os._exit(128 + number)


def _import_quickly() -> None:
    """Import ``msgspec`` without what it loads for nothing: up to a fourth of a run with nothing to do.

    Before Python 3.12 ``datetime`` runs the whole of its twin in Python, and then takes what the C module has. Where
    ``typing_extensions`` is installed, it is preferred to ``typing``, which has all that is needed here. Most of
    msgspec's own modules are not used here, nor are ``UUID`` and ``Decimal`` among the types that it converts. Whoever
    imports one of these modules later gets the real one.
    """
    if sys.version_info < (3, 12) and "datetime" not in sys.modules:
        with contextlib.suppress(ImportError):
            sys.modules["datetime"] = __import__("_datetime")
    # The first call of compile() makes a class of each part of Python's grammar. An annotation that it has compiled is
    # given to eval(), which takes the text as well.
    vars(typing).setdefault("compile", _uncompiled)
    uuid, decimal = _Later("uuid"), _Later("decimal")
    vars(uuid).update(UUID=type("UUID", (), {}), SafeUUID=type("SafeUUID", (), {"unknown": None}))
    vars(decimal).update(Decimal=type("Decimal", (), {}))
    schemas = _Later("msgspec._json_schema")
    # Each import of a name from it asks for its path.
    vars(schemas).update({name: partial(_call, schemas, name) for name in ("schema", "schema_components")}, __path__=[])
    stand_ins = {"typing_extensions": None, "uuid": uuid, "decimal": decimal, schemas.__name__: schemas}
    stand_ins |= {name: _Later(name) for name in _UNUSED_OF_MSGSPEC}
    missing = stand_ins.keys() - sys.modules.keys()
    sys.modules.update({name: stand_ins[name] for name in missing})  # type: ignore[misc]  # None: not to be found
    import signal

    # An interruption of what its C code imports is lost there, and the first conversion crashes the interpreter.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT,))
    try:
        # A version that cannot do without them is imported as usual, by the first module that needs it.
        with contextlib.suppress(ImportError):
            import msgspec  # noqa: F401
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for name in missing:
        if sys.modules.get(name) is stand_ins[name]:
            del sys.modules[name]


def _put_off_logging() -> None:
    """Let ``concurrent.futures`` have its logger without ``logging``: it logs a bug in a callback, and nothing else."""
    if "logging" not in sys.modules:
        later = _Later("logging")
        vars(later).update(getLogger=partial(_logger, later))
        sys.modules["logging"] = later


def _logger(logging: _Later, name: str | None = None) -> Any:
    if name == "concurrent.futures":
        return _Later("a logger", lambda: logging.real.getLogger(name))
    return logging.real.getLogger(name)


def _uncompiled(source: str, *_: object) -> str:
    return source


def _call(module: _Later, name: str, *arguments: Any, **options: Any) -> Any:
    return getattr(module.real, name)(*arguments, **options)


class _Later(ModuleType):
    """Stands for a module, or for what is in one, and loads it when something of it is asked for."""

    def __init__(self, name: str, load: Callable[[], Any] | None = None) -> None:
        super().__init__(name)
        self._load = load

    @property
    def real(self) -> Any:
        """What it stands for."""
        if self._load is not None:
            return self._load()
        name = self.__name__
        if sys.modules.get(name) is self:
            del sys.modules[name]
        __import__(name)
        return sys.modules[name]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


def _open_standard_streams() -> None:
    """Open closed standard streams as ``/dev/null``.

    Otherwise the ledger could get the number, and a warning be written into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            open_nowhere()  # gets the lowest free number, which is this one
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def open_nowhere() -> int:
    """Open ``/dev/null``, or an empty file in memory where there is none, as in a chroot without ``/dev``."""
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:
        return os.memfd_create("nowhere")


def _start_anew_in_utf8() -> None:
    """Restart the program in Python's UTF-8 mode, which can only be chosen at the start. Output keeps its encoding.

    The mode is set by an option, because Python may ignore its environment (``-E``, ``-I``), and before all other
    options, because the first one counts.
    """
    environment = dict(os.environ) | {_STARTED_ANEW: sys.stdout.encoding or "ascii"}
    arguments = [sys.executable, "-X", "utf8=1", *sys.orig_argv[1:]]
    # If the program cannot be restarted, it continues, and leaves names that it cannot read.
    with contextlib.suppress(OSError):
        os.execve(sys.executable, arguments, environment)
