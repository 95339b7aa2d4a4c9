"""The sources of credentials that botocore asks (programs, metadata services, STS, SSO), bounded in time and memory.

Terms
-----
helper
    Any source of credentials. It may hang, print nonsense, or never stop printing.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import functools
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from s3_uploader.core import procfs
from s3_uploader.core.control import start_thread
from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import shown_name, without_secrets
from s3_uploader.stores.s3.credentials import Credentials, unavailable, unusable_configuration

HELPER_SECONDS = 60.0
"""The timeout of a helper, including the time for a person to confirm something."""
_FIND_SECONDS = HELPER_SECONDS + 2.0
"""The timeout of all helpers together. A helper that hangs is named, because its own timeout comes first."""
_AFTER_END_SECONDS = 1.0
"""How long the output of a helper is read after its end, because a child process may hold it open forever."""
_LOOK_SECONDS = 0.1
_WAIT_SECONDS = 1.5
"""How long a request waits for the renewal of expired credentials. If that is too short, it is retried later."""
_RENEW_BEFORE_SECONDS = 15 * 60
_AGAIN_SECONDS = 30.0
"""Seconds before a failed renewal is repeated."""
_A_SECOND = datetime.timedelta(seconds=1)
_MOST_BYTES = 256 * 1024
_ALL_OR_NONE = "Set what is missing, or remove the rest so that another source is used."
_LONGEST_DETAIL = 300
_LONGEST_SEARCHED = 4096
"""Characters of an error that are searched for secrets."""


def find(session: Any, *, seconds: float = _FIND_SECONDS) -> Any:
    """Botocore's credentials of a session, with their first values; ``None`` if there are none.

    :raises StoreError: if their source or its settings fail, or it takes too long.
    """
    try:
        _bound_helpers(session)
    except AttributeError:
        pass  # other versions of botocore may be built differently
    except Exception as error:
        # botocore reads the settings of its helpers here: a ValueError for a number, an error of its own for a URL.
        raise unusable_configuration(str(error)) from None

    def ask() -> Any:
        found = session.get_credentials()
        if found is not None:
            found.get_frozen_credentials()
        return found

    asked = _Asked(ask)
    if not asked.wait(seconds):
        raise unavailable(f"their source did not answer in {seconds:g} s", code="CredentialsTimeout")
    if asked.error is not None:
        if type(asked.error).__name__ == "PartialCredentialsError":  # botocore's
            raise unavailable(_said(asked.error), hint=_ALL_OR_NONE)
        raise unavailable(_said(asked.error))
    return asked.result


class _Asked:
    """A call on a daemon thread, because only its answer can end it."""

    def __init__(self, ask: Callable[[], Any]) -> None:
        self.result: Any = None
        self.error: Exception | None = None
        self.began = time.monotonic()
        self._ask = ask
        self._over = threading.Event()
        try:
            start_thread(threading.Thread(target=self._run, name="s3-credentials", daemon=True))
        except RuntimeError:
            # If no thread can be started, this one waits.
            self._run()

    def _run(self) -> None:
        try:
            self.result = self._ask()
        except Exception as error:
            # Helpers may answer anything, and botocore expects valid data: KeyError, TypeError, ...
            self.error = error
        self._over.set()

    @property
    def over(self) -> bool:
        """Whether the answer is there."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for the answer. Returns whether it arrived in time."""
        return self._over.wait(seconds)


class RenewedCredentials:
    """Credentials from botocore. The same object is returned until they change, because signing keys are cached for it.

    They are renewed early on a thread of their own, because requests are signed on a thread that must not wait.

    :param usable: checks that they can be sent in a header.
    """

    def __init__(
        self,
        found: Any,
        *,
        usable: Callable[[Credentials], Credentials],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._found = found
        self._usable = usable
        self._clock = clock
        self._needs_renewal: Callable[[float], bool] = getattr(found, "refresh_needed", _never)
        self._renewal: _Asked | None = None
        self._renewed_at: float | None = None
        self._last: tuple[Any, Credentials] | None = None

    def __call__(self) -> Credentials:
        """The current credentials.

        :raises StoreError: if there are no valid ones.
        """
        last = self._last
        if last is None:
            return self._take(self._freeze())
        if not self._needs_renewal(_RENEW_BEFORE_SECONDS):
            return last[1]
        renewal = self._renew()
        if self._needs_renewal(0):
            # Only one request waits the whole time; otherwise each one would.
            renewal.wait(max(0.0, renewal.began + _WAIT_SECONDS - time.monotonic()))
        if renewal.over and renewal.error is None:
            return self._take(renewal.result)
        if not self._needs_renewal(0):
            return last[1]
        if renewal.error is not None:
            raise unavailable(_said(renewal.error))
        raise StoreError(
            "The AWS credentials have expired, and their source has not renewed them yet.",
            code="CredentialsExpired",
            origin=Origin.CREDENTIAL_SOURCE,
            scope=Scope.DESTINATION,
            retryable=True,
            hint="Check the source of this machine's credentials.",
        )

    def renew(self) -> bool:
        """Renew credentials that the server calls expired, whatever their date is, if that is possible.

        :returns: whether to ask the server once more.
        """
        # botocore can renew only credentials with an expiry date. It does so at their next use.
        if getattr(self._found, "_expiry_time", None) is None:
            return False
        renewed_at = self._renewed_at
        if renewed_at is None or self._clock() - renewed_at > _AGAIN_SECONDS:
            self._renewed_at = self._clock()
            self._found._expiry_time = datetime.datetime.now(datetime.timezone.utc) - _A_SECOND
        return True

    def _renew(self) -> _Asked:
        renewal = self._renewal
        if renewal is None or (renewal.over and self._clock() - renewal.began > _AGAIN_SECONDS):
            self._renewal = renewal = _Asked(self._found.get_frozen_credentials)
        return renewal

    def _freeze(self) -> Any:
        try:
            return self._found.get_frozen_credentials()
        except Exception as error:
            raise unavailable(_said(error)) from None

    def _take(self, frozen: Any) -> Credentials:
        last = self._last
        if last is not None and last[0] == frozen:
            return last[1]
        values = {"access key": frozen.access_key, "secret key": frozen.secret_key, "token": frozen.token or ""}
        for name, value in values.items():
            if not isinstance(value, str):
                raise unavailable(f"their source gives a {type(value).__name__} for the {name}, not text")
            if not value and name != "token":
                raise unavailable(f"their source gives an empty {name}")
        credentials = self._usable(Credentials(*values.values()))
        self._last = (frozen, credentials)
        self._renewal = None
        return credentials


def _never(seconds: float) -> bool:
    return False


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and isinstance(error.filename, str) and error.strerror:
        return f"{shown_name(error.filename)}: {error.strerror}"
    text = without_secrets(str(error)[:_LONGEST_SEARCHED])[:_LONGEST_DETAIL].strip().rstrip(".")
    if isinstance(error, (KeyError, TypeError, ValueError, AttributeError)):
        return f"their source gave an invalid answer ({type(error).__name__}: {text})"
    return text or type(error).__name__


# Bounded helpers.


def _bound_helpers(session: Any) -> None:
    """Bound the answers of all helpers of this session."""
    from s3_uploader.stores.s3.engines.bounded import bound

    create_client = session.create_client

    @functools.wraps(create_client)
    def create_bounded_client(*arguments: Any, **settings: Any) -> Any:
        client = create_client(*arguments, **settings)
        bound(client._endpoint.http_session)
        return client

    # The session makes clients that ask STS and SSO.
    session.create_client = create_bounded_client
    for provider in session.get_component("credential_provider").providers:
        _bound_provider(provider)


def _bound_provider(provider: Any) -> None:
    from s3_uploader.stores.s3.engines.bounded import bound

    if hasattr(provider, "_popen"):
        provider._popen = BoundedProcess
    for name in ("_fetcher", "_role_fetcher"):
        service = getattr(getattr(provider, name, None), "_session", None)
        if hasattr(service, "_pool_classes_by_scheme"):
            bound(service)
    builder = getattr(provider, "_profile_provider_builder", None)
    if builder is not None:
        make = builder._create_process_provider

        def create_process_provider(profile_name: str) -> Any:
            made = make(profile_name)
            made._popen = BoundedProcess
            return made

        builder._create_process_provider = create_process_provider
    sourcer = getattr(provider, "_credential_sourcer", None)
    for source in getattr(sourcer, "_providers", ()):
        _bound_provider(source)


_RUNNING: set[subprocess.Popen[bytes]] = set()


class BoundedProcess:
    """The part of ``subprocess.Popen`` that botocore uses. Its output is bounded, and it is killed after a timeout."""

    def __init__(self, command: Sequence[str], **_: object) -> None:
        if not _RUNNING:
            atexit.register(_kill_all)
        self._command = command[0] if command else ""
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _RUNNING.add(self._process)
        self.returncode: int | None = None

    def communicate(self) -> tuple[bytes, bytes]:
        """The contents of standard output and standard error.

        :raises OSError: if there is too much output or it takes too long.
        """
        process = self._process
        until = time.monotonic() + HELPER_SECONDS
        try:
            outputs = self._read(until)
            self.returncode = process.wait(max(0.1, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise self._took_too_long() from None
        finally:
            if self.returncode is None:
                _kill(process)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
            _RUNNING.discard(process)
        return outputs

    def _read(self, until: float) -> tuple[bytes, bytes]:
        streams = (self._process.stdout, self._process.stderr)
        outputs = (bytearray(), bytearray())
        ended: float | None = None
        with selectors.DefaultSelector() as selector:
            for stream, output in zip(streams, outputs, strict=True):
                assert stream is not None
                selector.register(stream, selectors.EVENT_READ, output)
            while selector.get_map():
                now = time.monotonic()
                if ended is None and self._process.poll() is not None:
                    ended = now
                if ended is not None and now - ended > _AFTER_END_SECONDS:
                    break
                if now >= until:
                    raise self._took_too_long()
                for key, _ in selector.select(min(until - now, _LOOK_SECONDS)):
                    data = key.fileobj.read1(64 * 1024)  # type: ignore[union-attr]
                    if not data:
                        selector.unregister(key.fileobj)
                    key.data.extend(data)
                    if len(key.data) > _MOST_BYTES:
                        raise OSError(f"{self._command} printed more than {_MOST_BYTES // 1024} KiB")
        # botocore decodes the error output as UTF-8, which a locale may write in another encoding.
        return bytes(outputs[0]), bytes(outputs[1]).decode("utf-8", "backslashreplace").encode()

    def _took_too_long(self) -> OSError:
        return OSError(f"{self._command} did not end in {HELPER_SECONDS:g} s")


def _kill_all() -> None:
    for process in list(_RUNNING):
        _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a helper and all its children."""
    for pid in procfs.descendants_of(process.pid) if process.poll() is None else ():
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(OSError):
        process.kill()
