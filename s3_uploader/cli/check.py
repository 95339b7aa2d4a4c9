"""The command ``check``: tests before the first deletion whether spool and destination can do what a run needs."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection, Iterator

import msgspec

from s3_uploader.cli.arguments import CheckOptions
from s3_uploader.cli.exit_codes import DESTINATION_UNUSABLE, OK, USAGE, to_whoever_reads
from s3_uploader.cli.frame import load
from s3_uploader.cli.output import columns, print_json, print_lines, takes_escapes, wrapped
from s3_uploader.config import Config
from s3_uploader.config.loading import resolved
from s3_uploader.config.share import whole
from s3_uploader.core.errors import (
    EngineUnavailable,
    NotMounted,
    ObjectGone,
    StateError,
    StoreError,
    UploaderError,
    UsageProblem,
)
from s3_uploader.core.findings import Finding, Severity
from s3_uploader.core.model import Proof, Receipt
from s3_uploader.core.text import shown_text
from s3_uploader.ledger import Ledger
from s3_uploader.run.assembly import limits_of, shipping_store, with_connections
from s3_uploader.run.context import ENDPOINT_MEMORY
from s3_uploader.run.in_flight import open_store
from s3_uploader.run.inventories import longest_step
from s3_uploader.run.needs import check_key_prefixes, check_needs, check_state_directory, check_telling
from s3_uploader.run.place import build_globs, directories_of, open_place, verify_mounts
from s3_uploader.run.routing import compression_formats, constant_prefixes
from s3_uploader.spool import echoes
from s3_uploader.spool.check import check_files, check_layout, check_spool, probe_file
from s3_uploader.spool.lock_file import refuse_planted
from s3_uploader.spool.mounts import ReadOnlySpool, refuse_read_only, refuse_silent
from s3_uploader.stores.base import USUAL_LIMITS, CheckLimits, Store

_MOST_PLACES = 32
_ECHO_SECONDS = 5.0
_CLOSE_SECONDS = 5.0
_HURRIED_CLOSE_SECONDS = 0.5
_OUT_OF_TIME = "There was no connection or no credentials before the time of the check was over (max_runtime_seconds)."
_IN_TIME = "Check the network and the source of this machine's credentials."
_MARKS = {Severity.OK: "ok", Severity.NOTE: "note", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR"}
_COLOURS = {Severity.OK: "32", Severity.NOTE: "36", Severity.WARNING: "33", Severity.ERROR: "31"}


def check(config_file: str, options: CheckOptions) -> int:
    """Print the findings; exit code 0 without errors, 2 for the spool or state, 3 for the destination."""
    signal.signal(signal.SIGTERM, _stop)
    configuration, local = _with_share(load(config_file, options))
    ledger_path = ""
    try:
        refuse_silent(directories_of(configuration))
        verify_mounts(configuration)
        with open_place(configuration) as place:
            removes = configuration.on_success != "keep"
            if removes:
                refuse_read_only(place.root)
            refuse_planted(place.root.descriptor, base_dir=configuration.base_dir)
            local += check_spool(place.root, layout=configuration.layout, removes=removes)
            local += check_files(place.root, place.layout, removes=removes, monotonic=time.monotonic)
            local += check_layout(
                place.root,
                place.layout,
                layout=configuration.layout,
                timezone=configuration.timezone,
                globs=build_globs(configuration),
                now=time.time(),
                monotonic=time.monotonic,
            )
            local += check_state_directory(place.state_dir)
            ledger_path = place.ledger_path
            if not _is_wrong(local):
                local += check_needs(place)
    except NotMounted as error:
        return _told([], [Finding(Severity.ERROR, "mounts", error.message, error.hint)], as_json=options.as_json)
    except ReadOnlySpool as error:
        local.append(Finding(Severity.ERROR, "spool", error.message, error.hint))
        local.append(Finding(Severity.NOTE, "destination", "not tried, because no run could begin."))
        return _told(local, [], as_json=options.as_json)
    except UploaderError as error:
        local.append(Finding(Severity.ERROR, "spool", error.message, error.hint))
    local += [*check_key_prefixes(configuration), *check_telling(configuration)]
    local += _check_compression(compression_formats(configuration))
    remote = _check_destination(configuration, ledger_path, local)
    return _told(local, remote, as_json=options.as_json)


def _with_share(given: Config) -> tuple[Config, list[Finding]]:
    """The configuration with its share as a run would find it. Without one, all files are checked."""
    try:
        return resolved(given), []
    except UsageProblem as error:
        hint = error.hint
        if given.share is not None and given.share.startswith("/"):
            hint += f" To check as one of these runs would: --set share=0{given.share}."
        return whole(given), [Finding(Severity.ERROR, "share", error.message, hint)]


def _check_destination(configuration: Config, ledger_path: str, local: list[Finding]) -> list[Finding]:
    """Findings about the destination; those about this machine are added to ``local``."""
    remote: list[Finding] = []

    def notice(level: str, sentence: str) -> None:
        remote.append(Finding(Severity.WARNING if level != "info" else Severity.NOTE, "destination", sentence))

    keys: list[str] = []

    def stored(key: str) -> None:
        keys.append(key)
        remote.extend(_look_for_echo(configuration, key))

    with _ledger(ledger_path, local) as ledger:
        # The next run knows what is found here, and the check starts with what earlier runs have found.
        memory = None if ledger is None else ledger.endpoint_memory(prefix=ENDPOINT_MEMORY)
        fitting = with_connections(configuration, limits_of(configuration).max_in_flight)
        store = shipping_store(
            fitting, notice=notice, memory=memory, state_dir=os.path.dirname(ledger_path) or os.curdir
        )
        began, limits = time.monotonic(), _limits(configuration)
        patience = _CLOSE_SECONDS
        try:
            if not open_store(store, must_end=lambda: time.monotonic() >= limits.ends_at, beat=lambda: None):
                raise StoreError(_OUT_OF_TIME, code="Timeout", hint=_IN_TIME)
            remote += store.check(now=time.time(), stored=stored, limits=limits)
            # A server with which one step timed out would cause more timeouts.
            is_late = limits.left() <= 0 or (time.monotonic() - began > limits.seconds and _is_wrong(remote))
            if keys and not is_late:
                remote += _look_for_spool(configuration, store)
        except EngineUnavailable as error:
            local.append(Finding(Severity.ERROR, "configuration", error.message, error.hint))
        except UploaderError as error:
            remote.append(Finding(Severity.ERROR, "destination", error.message, error.hint))
        except BaseException:
            patience = _HURRIED_CLOSE_SECONDS
            raise
        finally:
            store.close(timeout=patience)
    return remote


def _limits(configuration: Config) -> CheckLimits:
    """How long the check may take: a step as long as an upload, and all as long as a run."""
    # A file server may be late with each answer.
    silence = getattr(configuration.destination, "timeout_seconds", 0.0)
    seconds = min(max(USUAL_LIMITS.seconds, silence), longest_step(configuration))
    budget = configuration.max_runtime_seconds
    return CheckLimits(seconds) if budget is None else CheckLimits(seconds, time.monotonic() + budget)


def _stop(number: int, _: object) -> None:
    """End the program after the test objects have been removed."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + number)


def _told(local: list[Finding], remote: list[Finding], *, as_json: bool) -> int:
    """Print all findings; returns the exit code."""
    with to_whoever_reads():
        if as_json:
            print_json(msgspec.to_builtins([*local, *remote]))
        else:
            _print(local + remote)
    if _is_wrong(remote):
        return DESTINATION_UNUSABLE
    return USAGE if _is_wrong(local) else OK


def _is_wrong(findings: list[Finding]) -> bool:
    return any(finding.severity is Severity.ERROR for finding in findings)


def _look_for_echo(configuration: Config, key: str) -> list[Finding]:
    """Search the spool for an object that has just been stored: if it is found, the destination leads back there."""
    try:
        with open_place(configuration) as place:
            found = echoes.find(place.root, key, seconds=_ECHO_SECONDS)
            if found is None:
                return []
            path = place.root.shown((), found)
    except UploaderError:
        return []  # it was reported already
    return [_leads_back(f"the test object stored there under {key} appeared as {path}.")]


def _look_for_spool(configuration: Config, store: Store) -> list[Finding]:
    """Search the destination, under each prefix of keys, for a file that was just created in the spool."""
    places = _places_above(constant_prefixes(configuration))
    try:
        with open_place(configuration) as place, probe_file(place.root) as (name, size):
            for above in places:
                receipt = Receipt(key=above + name, size=size, proof=Proof.NONE)
                try:
                    store.confirm(receipt, deadline=time.monotonic() + _ECHO_SECONDS).result(_ECHO_SECONDS)
                except ObjectGone:
                    continue  # the expected case
                return [_leads_back(f"a test file in the spool appeared there at once, under {receipt.key}.")]
    except (UploaderError, OSError, TimeoutError):
        pass  # the cause was reported already
    return []


def _places_above(prefixes: Collection[str]) -> list[str]:
    """These prefixes of keys, and the directories on the way there."""
    found = dict.fromkeys(prefixes)
    for prefix in prefixes:
        parts = prefix.split("/")
        found |= dict.fromkeys("".join(f"{part}/" for part in parts[:depth]) for depth in range(len(parts)))
    return list(found)[:_MOST_PLACES]


def _leads_back(how: str) -> Finding:
    return Finding(
        Severity.ERROR,
        "destination",
        f"it leads back to the spool: {how}",
        "Files would be deleted although they are nowhere else, or be shipped again and again. Name a "
        "destination outside the spool (see bind mounts, the directory of the server, key_prefix).",
    )


@contextlib.contextmanager
def _ledger(path: str, local: list[Finding]) -> Iterator[Ledger | None]:
    """Open the ledger, if there is one that can be written. Damage that is found later is added to ``local``."""

    def notice(sentence: str) -> None:
        local.append(Finding(Severity.WARNING, "ledger", sentence))

    ledger = None
    if path and os.path.exists(path):
        with contextlib.suppress(StateError):
            # A damaged one is left to the next run, which sets it aside with a warning.
            Ledger.open_readonly(path).close()
            ledger = Ledger.open(path, notice=notice)
    try:
        yield ledger
    finally:
        if ledger is not None:
            ledger.close()


def _check_compression(formats: Collection[str]) -> list[Finding]:
    """Check that files can be compressed as configured: the library may be missing."""
    findings = []
    for name in sorted(formats):
        from s3_uploader.cli.process import open_nowhere
        from s3_uploader.stores.base import Compression, Source
        from s3_uploader.stores.wrappers.compressing import pack

        nowhere = open_nowhere()
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
    colourful = takes_escapes() and not os.environ.get("NO_COLOR")
    width = columns()
    for finding in findings:
        mark = f"{_MARKS[finding.severity]:7}"
        lines = wrapped(f"{mark}  {finding.subject}: {shown_text(finding.fact)}", width, indent=9)
        if colourful:
            lines[0] = f"\x1b[{_COLOURS[finding.severity]}m{lines[0][:7]}\x1b[0m{lines[0][7:]}"
        if finding.meaning:
            lines += wrapped(f"         {shown_text(finding.meaning)}", width, indent=9)
        print_lines(lines)
    errors = sum(finding.severity is Severity.ERROR for finding in findings)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    if errors:
        print_lines(["", "Not ready: see the errors above."])
    else:
        print_lines(["", "Ready." if not warnings else "Ready, with the warnings above."])
