"""What a process imports on its way to the command line."""

from __future__ import annotations

import subprocess
import sys

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
    """A library that is imported later gets ``platform`` and ``typing_extensions`` as they are."""
    later = "import platform, typing_extensions; print(platform.python_version(), typing_extensions.__file__)"
    version, file = printed_by(PREPARED + later).split()
    assert version == ".".join(str(part) for part in sys.version_info[:3])
    assert file.endswith("typing_extensions.py")


def test_the_stand_in_of_platform_has_what_platform_has() -> None:
    """A library that asks ``platform`` for more than the name of the system gets it from the module itself."""
    asks = """\
import sys
import s3_uploader.cli.process as process

def ask(name, *_):
    if name == "msgspec":
        import platform
        loaded = "__file__" in vars(platform)
        print(loaded, platform.python_version(), "__file__" in vars(sys.modules["platform"]))

sys.meta_path.insert(0, type("Finder", (), {"find_spec": staticmethod(ask)}))
process.prepare()
"""
    version = ".".join(str(part) for part in sys.version_info[:3])
    assert printed_by(asks).split() == ["False", version, "True"]


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
