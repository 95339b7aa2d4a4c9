"""Programs with a clock that is off, by way of Debian's libfaketime."""

from __future__ import annotations

from tests.servers import debian


def clock_offset_environment(seconds: float, *, shift_file_times: bool = False) -> dict[str, str]:
    """Return the variables that start a program with its clock so many seconds ahead (or behind, when negative).

    The monotonic clock is left alone, so that timeouts work. The times that `stat` shows are left alone as well,
    unless `shift_file_times`. It works for programs that ask the C library for the time; Go programs (rclone) do not.
    Raises `Unavailable` when libfaketime is not installed.
    """
    debian.require("faketime")
    library = debian.find_file(debian.REQUIREMENTS["faketime"].files[0])
    assert library is not None
    variables = {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+.3f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    return variables if shift_file_times else {**variables, "NO_FAKE_STAT": "1"}
