"""What a process imports on its way to the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

PREPARED = """\
import sys
from s3_uploader.cli.process import prepare
prepare()
"""


def printed_by(program: str) -> str:
    """What a program prints in a process of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_was_not_imported_for_the_start_is_there_for_others() -> None:
    """A library that is imported later gets the modules as they are, those of ``msgspec`` included."""
    later = """\
loaded = [name for name in ("decimal", "msgspec.inspect", "typing_extensions", "uuid") if name in sys.modules]
import decimal, msgspec, msgspec.toml, typing_extensions, uuid
print(loaded, decimal.Decimal("1.0"), uuid.UUID(int=1).int, typing_extensions.__file__.endswith("typing_extensions.py"))
print(msgspec.inspect.type_info(int), msgspec.msgpack.encode(1), msgspec.json.schema(int), msgspec.toml.__file__[-3:])
"""
    expected = (
        "[] 1.0 1 True",
        "IntType(gt=None, ge=None, lt=None, le=None, multiple_of=None) b'\\x01' {'type': 'integer'} .py",
    )
    assert printed_by(PREPARED + later).splitlines() == list(expected)


def test_annotations_mean_the_same() -> None:
    """Those that are text are read without Python's own compiler, and the times are those of the C module."""
    uses = """\
import datetime, pickle, typing
class Row:
    name: "str"
    of: "list[Row]"
print(typing.get_type_hints(Row)["name"] is str, typing.get_type_hints(Row)["of"] == list[Row])
try:
    typing.get_type_hints(type("Wrong", (), {"__annotations__": {"x": "1 +"}}))
except SyntaxError:
    print("refused")
moment = datetime.datetime(2026, 11, 30, tzinfo=datetime.timezone.utc)
print(pickle.loads(pickle.dumps(moment)) == moment, datetime.datetime.strptime("2026", "%Y").year)
"""
    assert printed_by(PREPARED + uses).splitlines() == ["True True", "refused", "True 2026"]


def test_a_stand_in_has_what_the_module_has() -> None:
    """Whoever asks a stand-in for more than it has gets it from the module itself."""
    asks = """\
import sys
import s3_uploader.cli.process as process

def ask(name, *_):
    if name == "msgspec":
        import uuid
        loaded = "__file__" in vars(uuid)
        print(loaded, uuid.uuid5(uuid.NAMESPACE_DNS, "a").version, "__file__" in vars(sys.modules["uuid"]))

sys.meta_path.insert(0, type("Finder", (), {"find_spec": staticmethod(ask)}))
process.prepare()
"""
    assert printed_by(asks).split() == ["False", "5", "True"]


def test_signals_have_their_names_as_soon_as_somebody_asks() -> None:
    """Handlers are set by number, and who wants the name of one or its class gets both from the whole module."""
    asks = """\
import signal, subprocess
whole = "__file__" in vars(signal)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(whole, signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, int(signal.SIGTERM))
from signal import Handlers, Signals
import signal
print(Signals(15).name, signal.getsignal(signal.SIGTERM) is Handlers.SIG_IGN, "__file__" in vars(signal))
print(signal.SIGTERM is Signals.SIGTERM, subprocess.run(["sh", "-c", "kill -9 $$"]).returncode)
"""
    assert printed_by(PREPARED + asks).split() == ["False", "True", "15", "SIGTERM", "True", "True", "True", "-9"]


def test_ctrl_c_waits_for_the_library_in_c() -> None:
    """An interruption in the midst of its import would make it crash later; so it comes when the import is over."""
    program = """
import signal, sys
from s3_uploader.cli import process

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "msgspec._core":
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
try:
    process._import_quickly()
except KeyboardInterrupt:
    print("msgspec" in sys.modules)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "True\n"


def test_little_is_imported_before_ctrl_c_is_understood() -> None:
    """A start that is interrupted is no traceback, but for the few modules that are loaded before the command is."""
    program = """
import sys
before = set(sys.modules)
from s3_uploader.cli import command
print(*sorted(set(sys.modules) - before - set(sys.builtin_module_names)))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["__future__", "s3_uploader", "s3_uploader._version", "s3_uploader.cli"]


LOST = """
import signal, sys
from s3_uploader.cli import command

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "s3_uploader.cli.run":
            self.__class__.__del__ = lambda self: signal.raise_signal(signal.SIGINT)
            Interrupts()

sys.meta_path.insert(0, Interrupts())
sys.argv = ["s3-uploader-cli", "/nonexistent/config.json"]
command()
"""


@pytest.mark.parametrize(("before", "code"), [("", 130), ("signal.signal(signal.SIGINT, signal.SIG_IGN)\n", 2)])
def test_ctrl_c_is_not_lost_while_modules_are_imported(before: str, code: int) -> None:
    """An exception is printed and forgotten in some places of an import. Where Ctrl-C is ignored, it stays ignored."""
    ended = subprocess.run(
        [sys.executable, "-c", f"import signal\n{before}{LOST}"], capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert "ignored" not in ended.stderr
    assert (ended.stderr == "") is (code == 130)


def test_ctrl_c_is_an_exception_for_a_command() -> None:
    """What ends the start at once is over when the command begins, which may have to clean up."""
    program = """
import signal
from s3_uploader.cli import process
process.prepare()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
process.raise_interruptions()
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["False", "True"]


def test_futures_do_without_logging_until_there_is_something_to_log() -> None:
    """``concurrent.futures`` does not load ``logging``; a bug in a callback is logged with it all the same."""
    program = """
from concurrent.futures import Future

def bug(future):
    raise ValueError("a bug in a callback")

answer = Future()
answer.add_done_callback(bug)
print("traceback" in sys.modules)
answer.set_result(None)
import logging
print(hasattr(logging, "__file__"), logging is sys.modules["logging"])
"""
    done = subprocess.run([sys.executable, "-c", PREPARED + program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
    assert done.stderr.startswith("exception calling callback")
    assert done.stderr.endswith("ValueError: a bug in a callback\n")


def test_logging_is_there_for_others() -> None:
    """Whoever imports ``logging``, a part of it, or something from it gets the real one, whatever the order."""
    ways = (
        "import logging; print(issubclass(logging.Handler, object), logging.getLogger('x') is logging.getLogger('x'))",
        "from logging import Handler, getLogger; print(isinstance(Handler(), Handler), getLogger().name == 'root')",
        "import logging.handlers as h, logging; print(h is logging.handlers, hasattr(h, 'SysLogHandler'))",
        "import concurrent.futures as f, logging; print(*[logging.getLogger(f.__name__).name == f.__name__] * 2)",
        "import asyncio, logging; print(asyncio.log.logger is logging.getLogger('asyncio'), True)",
    )
    for way in ways:
        assert printed_by(PREPARED + way) == "True True", way
