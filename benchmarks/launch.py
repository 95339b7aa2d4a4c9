"""Runs one command and writes what it took to standard output, as JSON.

A process of its own, started with ``-I -S``, because Linux lets a child inherit the peak memory of the one that started
it (``setmax_mm_hiwater_rss`` in ``fs/exec.c``): started by the large benchmark itself, every program would seem large.

``python -I -S launch.py OUTPUT COMMAND [ARGUMENT...]``; what the command writes goes to the file OUTPUT.
"""

import os
import sys
import time


def main() -> int:
    """Run the command; returns 0 whatever its own exit code is."""
    output, *command = sys.argv[1:]
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    began = time.perf_counter()
    process = os.posix_spawn(
        command[0],
        command,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_DUP2, descriptor, 1), (os.POSIX_SPAWN_DUP2, descriptor, 2)],
    )
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    code = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    # Linux counts ru_maxrss in KiB (getrusage(2)).
    print(f'{{"seconds": {seconds}, "cpu": {cpu}, "peak": {usage.ru_maxrss * 1024}, "code": {code}}}')
    return 0


if __name__ == "__main__":
    sys.exit(main())
