"""The command ``forget``: forget that files have failed, so that the next run tries them."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Sequence

from s3_uploader.cli.arguments import ForgetOptions
from s3_uploader.cli.exit_codes import OK, SOME_FAILED
from s3_uploader.cli.frame import load
from s3_uploader.cli.missing_ledgers import tell_of_missing_ledger
from s3_uploader.cli.output import print_json, print_lines, print_note
from s3_uploader.core.errors import UsageProblem
from s3_uploader.core.text import counted, shown_name
from s3_uploader.ledger import Ledger
from s3_uploader.ledger.state_directory import ledger_path
from s3_uploader.ledger.together import ledgers_of_shares

_CHUNK = 500


def forget(config_file: str, paths: Sequence[str], options: ForgetOptions) -> int:
    """Forget the failures of these files; exit code 1 if a path names none of them.

    :param paths: absolute, or relative to the spool or to the current directory; may hold wildcards.
    """
    if bool(paths) == options.everything:
        raise UsageProblem("Name the files, or give --all, but not both.", hint="`status` lists the files that fail.")
    configuration = load(config_file, options)
    wanted = [_relative(path, configuration.base_dir) for path in paths]
    found: list[str] = []
    unused = set(wanted)
    path = ledger_path(configuration)
    tell_of_missing_ledger(path)
    for ledger_file in filter(os.path.exists, (path, *ledgers_of_shares(path).values())):
        with Ledger.open(ledger_file, notice=print_note) as ledger:
            here: list[str] = []
            for row in ledger.failing_rows():
                matching = [pattern for pattern in wanted if _matches(row.path, pattern)]
                unused -= set(matching)
                if matching or options.everything:
                    here.append(row.path)
            for begin in range(0, len(here), _CHUNK):
                ledger.forget_failed(here[begin : begin + _CHUNK])
            found += here
    found = list(dict.fromkeys(found))
    if options.as_json:
        print_json({"forgotten": found, "not_failing": sorted(unused)})
    else:
        print_lines([f"{shown_name(path)}: forgotten" for path in found])
        of_that_name = {path: "" if path == "." else " of that name" for path in sorted(unused)}
        print_lines([f"{shown_name(path)}: no file{words} is failing" for path, words in of_that_name.items()])
        print_lines([f"{counted(len(found), 'file')} will be tried by the next run."])
    return SOME_FAILED if unused else OK


def _relative(path: str, base_dir: str) -> str:
    """Convert a path to the form of the ledger; the spool itself is ``.``."""
    bases = dict.fromkeys((os.path.abspath(base_dir), os.path.realpath(base_dir)))
    real = os.path.normpath(path)
    if not os.path.isabs(path):
        # Relative to the spool; or to the current directory, as a shell completes it.
        beside = os.path.abspath(path)
        is_in_spool = real.split("/", 1)[0] not in (".", "..") and os.path.lexists(os.path.join(base_dir, real))
        if is_in_spool or not os.path.lexists(beside):
            return real
        if real == "." and not any(_is_within(beside, base) for base in bases):
            return real
        real = beside
    return next((os.path.relpath(real, base) for base in bases if _is_within(real, base)), real)


def _is_within(path: str, directory: str) -> bool:
    return os.path.isabs(path) and os.path.commonpath([path, directory]) == directory


def _matches(path: str, pattern: str) -> bool:
    # A name may hold what looks like a wildcard; and a directory stands for what is below it.
    return path == pattern or pattern == "." or path.startswith(pattern + "/") or fnmatch.fnmatchcase(path, pattern)
