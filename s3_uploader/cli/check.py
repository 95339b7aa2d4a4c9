"""The command ``check``: prove that spool and destination can do what is needed, before the first delete."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection

from s3_uploader.cli.exit_codes import DESTINATION_UNUSABLE, OK, USAGE
from s3_uploader.cli.output import print_json, print_lines
from s3_uploader.cli.settings import load
from s3_uploader.core.errors import UploaderError
from s3_uploader.core.model import Finding, Severity
from s3_uploader.core.text import shown_text
from s3_uploader.ledger.state_directory import check_state_directory
from s3_uploader.run import assembly
from s3_uploader.spool.check import check_layout, check_spool

_MARKS = {Severity.OK: "ok", Severity.NOTE: "note", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR"}
_COLOURS = {Severity.OK: "32", Severity.NOTE: "36", Severity.WARNING: "33", Severity.ERROR: "31"}


def check(config_file: str, *, as_json: bool) -> int:
    """Print the findings; exit code 0 without errors, 2 for the spool or state, 3 for the destination."""
    configuration = load(config_file)
    local: list[Finding] = []
    try:
        with assembly.open_place(configuration) as place:
            local += check_spool(place.root, layout=configuration.layout)
            local += check_layout(
                place.root,
                place.layout,
                layout=configuration.layout,
                globs=assembly.build_globs(configuration),
                now=time.time(),
                monotonic=time.monotonic,
            )
            local += check_state_directory(place.state_dir)
    except UploaderError as error:
        local.append(Finding(Severity.ERROR, "spool", error.message, error.hint))
    local += _check_compression(assembly.compression_formats(configuration))
    remote: list[Finding] = []

    def notice(level: str, sentence: str) -> None:
        remote.append(Finding(Severity.WARNING if level != "info" else Severity.NOTE, "destination", sentence))

    store = assembly.build_store(configuration, notice=notice, memory=None)
    try:
        store.open()
        remote += store.check(now=time.time())
    except UploaderError as error:
        remote.append(Finding(Severity.ERROR, "destination", error.message, error.hint))
    finally:
        store.close(timeout=5.0)
    if as_json:
        print_json([*local, *remote])
    else:
        _print(local + remote)
    if any(finding.severity is Severity.ERROR for finding in remote):
        return DESTINATION_UNUSABLE
    return USAGE if any(finding.severity is Severity.ERROR for finding in local) else OK


def _check_compression(formats: Collection[str]) -> list[Finding]:
    """Whether files can be compressed as they are to be: the library for it may be missing."""
    findings = []
    for name in sorted(formats):
        from s3_uploader.stores.base import Compression, Source
        from s3_uploader.stores.wrappers.compressing import pack

        nowhere = os.open(os.devnull, os.O_RDWR)
        try:
            pack(Source(nowhere, 0), nowhere, Compression(name, 1, ""))
        except UploaderError as error:
            findings.append(Finding(Severity.ERROR, "compress", error.message, error.hint))
        else:
            findings.append(Finding(Severity.OK, "compress", f"files can be compressed with {name}."))
        finally:
            os.close(nowhere)
    return findings


def _print(findings: list[Finding]) -> None:
    colourful = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for finding in findings:
        mark = f"{_MARKS[finding.severity]:7}"
        if colourful:
            mark = f"\x1b[{_COLOURS[finding.severity]}m{mark}\x1b[0m"
        print_lines([f"{mark}  {finding.subject}: {shown_text(finding.fact)}"])
        if finding.meaning:
            print_lines([f"         {shown_text(finding.meaning)}"])
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    if errors:
        print_lines(["", "Not ready: see the errors above."])
    else:
        print_lines(["", "Ready." if not warnings else "Ready, with the warnings above."])
