"""How the S3 store gets to its bucket: TLS, proxies, addressing, profiles, credentials, clocks, regions."""

from __future__ import annotations

import base64
import calendar
import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials

from s3_uploader import RemoteStore, S3Connection
from s3_uploader.core.errors import EngineUnavailable, Scope, StoreError
from s3_uploader.core.model import Proof
from s3_uploader.core.origins import Origin
from s3_uploader.stores.retry import RetryPolicy
from s3_uploader.stores.s3.credentials import Credentials
from s3_uploader.stores.s3.endpoint import Access
from s3_uploader.stores.s3.engines.base import Engine, EngineSettings
from s3_uploader.stores.s3.engines.native import NativeEngine
from s3_uploader.stores.s3.engines.sigv4 import Signer
from tests.contracts.store_contract import pattern
from tests.integration.s3_raw_server import RawRequest, RawServer
from tests.integration.s3_support import MEBIBYTE, PART, PATIENCE, Known, Station
from tests.servers.base import S3Endpoint
from tests.servers.certificates import make_certificates
from tests.servers.fault_script import error as fault
from tests.servers.fault_script import slow_body
from tests.servers.fault_server import FaultServer
from tests.servers.fixtures import MakeFaultServer
from tests.servers.rclone_s3 import RcloneServer

pytestmark = pytest.mark.rotated("real_s3")

SetEnvironment = Callable[[Mapping[str, str]], dict[str, str]]


@pytest.fixture
def set_environment(monkeypatch: pytest.MonkeyPatch) -> SetEnvironment:
    """Make variables those of this process, since botocore reads them there, and return them."""

    def make(variables: Mapping[str, str]) -> dict[str, str]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return dict(variables)

    return make


def _given_by_a_process(place: Path, server: FaultServer, *, minutes: str) -> tuple[dict[str, str], Path]:
    """The environment in which a process gives the credentials, and the file into which it writes a letter each time.

    :param minutes: for how long they are valid, as an expression of Python that may use the ``count`` of the calls.
    """
    calls, script = place / "calls", place / "give.py"
    document = {"Version": 1, "AccessKeyId": server.access_key, "SecretAccessKey": server.secret_key}
    script.write_text(
        "import datetime, json\n"
        f"calls = open({str(calls)!r}, 'a+'); calls.write('x'); calls.seek(0); count = len(calls.read())\n"
        f"end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes={minutes})\n"
        f"answer = json.loads({json.dumps(document)!r})\n"
        "print(json.dumps({**answer, 'SessionToken': f'token-{count}', 'Expiration': end.isoformat()}))\n"
    )
    (place / "config").write_text(f"[default]\ncredential_process = {sys.executable} {script}\n")
    environment = {
        "AWS_CONFIG_FILE": str(place / "config"),
        "AWS_ENDPOINT_URL": server.endpoint_url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    return environment, calls


def tls_context(directory: Path, **arguments: tuple[str, ...]) -> tuple[ssl.SSLContext, Path]:
    """A server's context with a certificate of an authority of its own, and the authority's file."""
    certificates = make_certificates(directory, **arguments)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    return context, certificates.authority


def encrypted(key: Path, passphrase: bytes) -> bytes:
    """A private key, encrypted."""
    from cryptography.hazmat.primitives import serialization

    read = serialization.load_pem_private_key(key.read_bytes(), None)
    return read.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


def demanding_a_certificate(directory: Path) -> tuple[ssl.SSLContext, Path, Path]:
    """TLS of a server that demands a certificate of its clients, its authority, and such a certificate with its key."""
    context, authority = tls_context(directory)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority)
    mine = directory / "mine.pem"
    mine.write_bytes((directory / "server.pem").read_bytes() + (directory / "server.key").read_bytes())
    return context, authority, mine


class TestTls:
    @pytest.mark.parametrize("size", [100, PART + 100])
    def test_a_private_authority(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, size: int
    ) -> None:
        """With AWS_CA_BUNDLE naming a private authority its servers are trusted."""
        server = make_fault_server(tls=True)
        store = station.store(server.endpoint, engine)
        assert station.put(store, "key", pattern(size)).proof is Proof.CHECKSUM
        assert server.objects() == {"key": pattern(size)}
        # The transport protects the bytes, so they are not digested twice.
        assert {request.headers["x-amz-content-sha256"] for request in server.requests_of("PutObject")} <= {
            "UNSIGNED-PAYLOAD"
        }

    def test_an_unknown_authority(self, engine: str, station: Station, make_fault_server: MakeFaultServer) -> None:
        """A certificate of an authority that nobody has named ends the run at once, and nothing is sent."""
        server = make_fault_server(tls=True)
        environment = server.environment()
        del environment["AWS_CA_BUNDLE"]
        store = station.store(environment, engine, bucket=server.bucket)
        began = time.monotonic()
        error = station.error(store, "key", b"content")
        assert (error.code, error.scope, error.retryable) == ("TlsFailed", Scope.DESTINATION, False)
        assert "AWS_CA_BUNDLE" in error.hint
        assert time.monotonic() - began < 5
        assert server.requests == []

    def test_a_server_that_demands_a_client_certificate(self, engine: str, station: Station, tmp_path: Path) -> None:
        """A server that demands a certificate of the client is a matter of certificates, not of the network."""
        context, authority = tls_context(tmp_path)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority)
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            environment = {**server.endpoint.environment(), "AWS_CA_BUNDLE": str(authority)}
            error = station.error(station.store(environment, engine, bucket="bucket"), "key", b"content")
            assert (error.code, error.scope, error.origin) == ("TlsFailed", Scope.DESTINATION, Origin.CERTIFICATE)
            assert server.requests == []

    def test_a_client_certificate(self, engine: str, station: Station, tmp_path: Path) -> None:
        """The configured certificate is presented to a server that demands one."""
        context, authority, mine = demanding_a_certificate(tmp_path)
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            environment = {**server.endpoint.environment(), "AWS_CA_BUNDLE": str(authority)}
            store = station.store(environment, engine, bucket="bucket", client_certificate_file=str(mine))
            station.put(store, "key", b"content")
            assert server.requests

    def test_a_client_certificate_of_the_object_api(self, engine: Literal["native", "boto3"], tmp_path: Path) -> None:
        """The object API presents one too, with its engines and with the boto3 client that it lends."""
        context, authority, mine = demanding_a_certificate(tmp_path)
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            connection = S3Connection(
                "AKIAEXAMPLE",
                "secret",
                "bucket",
                server.endpoint.endpoint_url,
                ca_file=str(authority),
                client_certificate_file=str(mine),
                engine=engine,
            )
            with RemoteStore(connection, raise_errors=True) as store:
                store.write_bytes(b"content", "key")
                connection.client.put_object(Bucket="bucket", Key="other", Body=b"content")
            assert {request.key for request in server.requests if request.method == "PUT"} == {"key", "other"}

    @pytest.mark.parametrize(
        "content", [None, b"", b"passphrase"], ids=["is not there", "is empty", "has a passphrase"]
    )
    def test_a_client_certificate_that_cannot_be_used(
        self, engine: str, station: Station, tmp_path: Path, content: bytes | None
    ) -> None:
        """It ends the run with its path at once, and nobody is asked for a passphrase."""
        context, authority = tls_context(tmp_path)
        mine = tmp_path / "mine.pem"
        if content:
            mine.write_bytes((tmp_path / "server.pem").read_bytes() + encrypted(tmp_path / "server.key", content))
        elif content is not None:
            mine.touch()
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            environment = {**server.endpoint.environment(), "AWS_CA_BUNDLE": str(authority)}
            with pytest.raises(StoreError, match=re.escape(str(mine))) as caught:
                station.store(environment, engine, bucket="bucket", client_certificate_file=str(mine))
        assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.CERTIFICATE)

    @pytest.mark.parametrize("key", ["AWS_CA_BUNDLE", "client_certificate_file"])
    def test_certificates_in_a_pipe(self, engine: str, station: Station, tmp_path: Path, key: str) -> None:
        """Nobody waits for whoever may write it."""
        os.mkfifo(tmp_path / "pipe")
        with RawServer(lambda request, connection: request.good(), tls=tls_context(tmp_path)[0]) as server:
            environment, options = server.endpoint.environment(), {"bucket": "bucket"}
            (environment if key == "AWS_CA_BUNDLE" else options)[key] = str(tmp_path / "pipe")
            with pytest.raises(StoreError, match="cannot be used: Is a named pipe") as caught:
                station.store(environment, engine, **options)
        assert (caught.value.scope, caught.value.origin) == (Scope.DESTINATION, Origin.CERTIFICATE)

    @pytest.mark.parametrize("by_name", [False, True])
    def test_a_certificate_of_another_host(
        self, engine: str, station: Station, tmp_path: Path, *, by_name: bool
    ) -> None:
        """A certificate that a trusted authority has made for another host is refused."""
        names = ("another.example.com",) if by_name else ("localhost",)
        context, authority = tls_context(tmp_path, names=names, addresses=("127.0.0.9",))
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            endpoint = server.endpoint_at("localhost" if by_name else "127.0.0.1")
            store = station.store({**endpoint.environment(), "AWS_CA_BUNDLE": str(authority)}, engine, bucket="bucket")
            error = station.error(store, "key", b"content")
            assert (error.code, error.scope) == ("TlsFailed", Scope.DESTINATION)
            assert server.requests == []

    def test_the_name_is_told_to_the_server(self, engine: str, station: Station, tmp_path: Path) -> None:
        """A server with several certificates learns which name is meant (SNI)."""
        context, authority = tls_context(tmp_path)
        names: list[str | None] = []
        context.sni_callback = lambda sock, name, context: names.append(name)
        with RawServer(lambda request, connection: request.good(), tls=context) as server:
            environment = {**server.endpoint_at("localhost").environment(), "AWS_CA_BUNDLE": str(authority)}
            store = station.store(environment, engine, bucket="bucket", memory=Known())
            station.put(store, "key", b"content")
        assert set(names) == {"localhost"}

    def test_a_server_without_tls(self, engine: str, station: Station) -> None:
        """An endpoint that is called https and speaks plain http is an error of TLS, for everybody."""
        greeting = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
        with RawServer(lambda request, connection: None, greeting=greeting) as server:
            url = server.endpoint.endpoint_url.replace("http:", "https:")
            error = station.error(station.store(server.endpoint.replace(endpoint_url=url), engine), "key", b"content")
            assert error.scope is Scope.DESTINATION
            assert error.code == "TlsFailed"
            assert "http" in error.hint

    def test_a_handshake_without_an_answer(self, engine: str, station: Station) -> None:
        """A silent server is not blamed on certificates: an overload or the network may be the cause."""
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            endpoint = S3Endpoint(endpoint_url=url, access_key="key", secret_key="secret", bucket="bucket")
            store = station.store(endpoint, engine, connect_timeout_seconds=0.5)
            error = station.error(store, "key", b"content")
        assert (error.scope, error.origin) == (Scope.DESTINATION, Origin.UNREACHABLE)
        assert "no answer to the TLS handshake" in error.message

    def test_a_bundle_that_is_none(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, tmp_path: Path
    ) -> None:
        """AWS_CA_BUNDLE naming a file that is not there or holds no certificate is said at once."""
        server = make_fault_server(tls=True)
        (tmp_path / "empty.pem").write_text("this is no certificate\n")
        for name in ("missing.pem", "empty.pem"):
            environment = {**server.environment(), "AWS_CA_BUNDLE": str(tmp_path / name)}
            with pytest.raises(StoreError) as caught:
                station.put(station.store(environment, engine, bucket=server.bucket), "key", b"content")
            assert caught.value.scope is Scope.DESTINATION

    def test_a_slow_reader_behind_tls_and_a_limit(self, station: Station, make_fault_server: MakeFaultServer) -> None:
        """What TLS could not send at once goes out whole later, also where max_bandwidth cuts it into pieces."""
        server = make_fault_server(tls=True)
        server.faults.add(slow_body(1_500_000).only(operations=("PutObject", "UploadPart"), times=None))
        store = station.store(
            server.endpoint, "native", memory=Known(), max_bandwidth=4_000_000, multipart_threshold=64 * MEBIBYTE
        )
        futures = [station.begin(store, f"key-{number}", pattern(2 * MEBIBYTE, str(number))) for number in range(4)]
        assert [future.exception(PATIENCE) for future in futures] == [None] * 4
        assert len(server.requests) == 4, "a request was sent twice"
        server.faults.clear()


class ForwardProxy:
    """An HTTP proxy: CONNECT, and requests that name the whole URL. With ``password`` it asks for ``me:<password>``."""

    def __init__(self, *, password: str = "", to: tuple[str, int] | None = None) -> None:
        self._expected = "Basic " + base64.b64encode(f"me:{password}".encode()).decode() if password else ""
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.lines: list[str] = []
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> ForwardProxy:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            buffer = b""
            while b"\r\n\r\n" not in buffer:
                data = client.recv(65536)
                if not data:
                    return
                buffer += data
            head = buffer.partition(b"\r\n\r\n")[0].decode("latin-1")
            line = head.splitlines()[0]
            self.lines.append(line)
            headers = {name.lower(): value.strip() for name, _, value in (h.partition(":") for h in head.split("\r\n"))}
            if self._expected and headers.get("proxy-authorization") != self._expected:
                client.sendall(
                    b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                    b"Proxy-Authenticate: Basic\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
                time.sleep(0.1)
                client.close()
                return
            method, target, _ = line.split(" ")
            name = target if method == "CONNECT" else target.split("/")[2]
            host, _, port = name.rpartition(":") if ":" in name else (name, "", "80")
            server = socket.create_connection(self._to or (host, int(port)))
            self._open.append(server)
            if method == "CONNECT":
                client.sendall(b"HTTP/1.1 200 Connection established\r\nX-Proxy: yes\r\n\r\n")
            else:
                server.sendall(buffer)
            threading.Thread(target=self._pass, args=(server, client), daemon=True).start()
            self._pass(client, server)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


class TestProxies:
    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize("password", ["", "p@ss:w/ord"])
    def test_the_proxy_of_the_environment(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        password: str,
        *,
        tls: bool,
    ) -> None:
        """Uploads go through HTTP_PROXY or HTTPS_PROXY, with the name and the password that stand in it."""
        server = make_fault_server(tls=tls)
        with ForwardProxy(password=password) as proxy:
            user = "me:p%40ss%3Aw%2Ford@" if password else ""
            url = f"http://{user}127.0.0.1:{proxy.port}"
            variable = "HTTPS_PROXY" if tls else "HTTP_PROXY"
            environment = set_environment(
                {**server.environment(), "NO_PROXY": "", "no_proxy": "", variable: url, variable.lower(): url}
            )
            store = station.store(environment, engine, bucket=server.bucket)
            for size in (100, PART + 100):
                station.put(store, f"key-{size}", pattern(size))
        assert server.objects() == {f"key-{size}": pattern(size) for size in (100, PART + 100)}
        assert proxy.lines
        assert all(
            line.startswith("CONNECT " if tls else ("HEAD http", "PUT http", "POST http")) for line in proxy.lines
        )

    @pytest.mark.parametrize("tls", [False, True])
    def test_a_wrong_password_for_the_proxy(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        *,
        tls: bool,
    ) -> None:
        """A proxy that wants a password ends the run within seconds and is named as the culprit."""
        server = make_fault_server(tls=tls)
        with ForwardProxy(password="right") as proxy:
            url = f"http://me:wrong@127.0.0.1:{proxy.port}"
            names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
            environment = set_environment(
                {**server.environment(), "NO_PROXY": "", "no_proxy": "", **dict.fromkeys(names, url)}
            )
            store = station.store(environment, engine, bucket=server.bucket)
            began = time.monotonic()
            error = station.error(store, "key", b"content")
            assert time.monotonic() - began < 10
        assert error.scope is Scope.DESTINATION
        assert "PROXY" in error.hint
        assert server.requests == []

    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid:3128"])
    def test_a_proxy_that_is_not_there(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        host: str,
        *,
        tls: bool,
    ) -> None:
        """A proxy that cannot be reached is named as the culprit, not the endpoint behind it."""
        server = make_fault_server(tls=tls)
        names = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy")
        environment = set_environment(
            {**server.environment(), "NO_PROXY": "", "no_proxy": "", **dict.fromkeys(names, f"http://{host}")}
        )
        store = station.store(environment, engine, bucket=server.bucket, retry=RetryPolicy(max_attempts=1))
        error = station.error(store, "key", b"content")
        assert (error.scope, error.origin) == (Scope.DESTINATION, Origin.PROXY)
        assert "HTTPS_PROXY" in error.hint
        assert server.requests == []

    def test_no_proxy(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, set_environment: SetEnvironment
    ) -> None:
        """A host that NO_PROXY names is reached without the proxy."""
        server = make_fault_server()
        with ForwardProxy() as proxy:
            url = f"http://127.0.0.1:{proxy.port}"
            environment = set_environment({**server.environment(), "HTTP_PROXY": url, "http_proxy": url})
            station.put(station.store(environment, engine, bucket=server.bucket), "key", b"content")
            assert proxy.lines == []

    @pytest.mark.parametrize("url", ["socks5://127.0.0.1:1", "https://127.0.0.1:1"])
    def test_a_proxy_of_another_kind(
        self,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        url: str,
    ) -> None:
        """A proxy that only boto3 may know is left to boto3, which is said; nothing ever goes past the proxy."""
        server = make_fault_server()
        names = ("HTTP_PROXY", "http_proxy")
        environment = set_environment(
            {**server.environment(), "NO_PROXY": "", "no_proxy": "", **dict.fromkeys(names, url)}
        )
        with pytest.raises(EngineUnavailable):
            station.store(environment, "native", bucket=server.bucket)
        with contextlib.suppress(StoreError):
            store = station.store(environment, "auto", bucket=server.bucket)
            assert store.engine_name == "boto3"
            assert any("proxy" in message for _, message in station.notices)
            station.error(store, "key", b"content", seconds=15)
        assert server.requests == []


class TestAddressing:
    def test_virtual_hosts(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, set_environment: SetEnvironment
    ) -> None:
        """With addressing_style: virtual the bucket stands in the host's name."""
        server = make_fault_server()
        environment = {**server.virtual_host_environment(), "NO_PROXY": "", "no_proxy": ""}
        store = station.store(set_environment(environment), engine, bucket=server.bucket, addressing_style="virtual")
        for size in (100, PART + 100):
            station.put(store, f"a b/{size}", pattern(size))
        assert server.objects() == {f"a b/{size}": pattern(size) for size in (100, PART + 100)}
        assert {request.host for request in server.requests} == {f"{server.bucket}.s3.test"}

    def test_a_url_with_a_path(self, engine: str, station: Station) -> None:
        """An endpoint may lie below a path, as behind a reverse proxy."""
        with RawServer(lambda request, connection: request.good()) as server:
            endpoint = server.endpoint.replace(endpoint_url=server.endpoint.endpoint_url + "/storage/s3/")
            station.put(station.store(endpoint, engine, memory=Known()), "a/b", b"content")
            assert [request.target for request in server.requests] == ["/storage/s3/bucket/a/b"]

    @pytest.mark.parametrize("url", ["ftp://host", "http://", "host.example.com", "http://ho st", "http://host:99999"])
    def test_an_endpoint_that_is_none(self, engine: str, station: Station, url: str) -> None:
        """An endpoint_url that names no server is refused before anything else."""
        with pytest.raises(StoreError) as caught:
            station.store(
                {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B"}, engine, bucket="b", endpoint_url=url
            )
        assert caught.value.scope is Scope.DESTINATION

    @pytest.mark.parametrize("status", [b"404 Not Found", b"405 Method Not Allowed", b"501 Unsupported method"])
    def test_a_server_that_is_no_s3(self, engine: str, station: Station, status: bytes) -> None:
        """An endpoint_url that leads to some other web server ends the run and asks whether this is S3."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes:
            page = b"" if request.method == "HEAD" else b"<html><body>What?</body></html>"
            return (
                b"HTTP/1.1 " + status + b"\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(page) + page
            )

        with RawServer(answer) as server:
            error = station.error(station.store(server.endpoint, engine), "key", b"content")
        assert error.scope is Scope.DESTINATION
        assert "endpoint_url" in error.hint


class TestCredentials:
    @pytest.mark.parametrize("way", ["credentials file", "profile", "config file"])
    def test_files_and_profiles(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        tmp_path: Path,
        way: str,
    ) -> None:
        """Shared files, profiles and the endpoint in them work as with every AWS tool."""
        server = make_fault_server()
        keys = f"aws_access_key_id = {server.access_key}\naws_secret_access_key = {server.secret_key}\n"
        section = "profile spool" if way == "profile" else "default"
        settings = f"[{section}]\nregion = eu-central-1\nendpoint_url = {server.endpoint_url}\n"
        if way == "config file":
            settings += keys
        (tmp_path / "config").write_text(settings)
        name = "spool" if way == "profile" else "default"
        (tmp_path / "credentials").write_text(f"[{name}]\n{keys}" if way != "config file" else "")
        environment = set_environment(
            {
                "AWS_CONFIG_FILE": str(tmp_path / "config"),
                "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
                "AWS_EC2_METADATA_DISABLED": "true",
            }
        )
        profile = "spool" if way == "profile" else None
        store = station.store(environment, engine, bucket=server.bucket, profile=profile)
        station.put(store, "key", b"content")
        assert server.objects() == {"key": b"content"}
        assert "/eu-central-1/s3/" in server.requests[0].headers["authorization"]

    @pytest.mark.parametrize("profile", ["no-such-profile", None])
    def test_no_credentials_at_all(
        self, engine: str, station: Station, set_environment: SetEnvironment, profile: str | None
    ) -> None:
        """Without credentials, or with a profile that does not exist, the run ends before it begins."""
        environment = set_environment(
            {"AWS_EC2_METADATA_DISABLED": "true", "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_REGION": "us-east-1"}
        )
        with pytest.raises(StoreError) as caught:
            station.store(environment, engine, bucket="bucket", profile=profile)
        assert caught.value.scope is Scope.DESTINATION
        assert caught.value.hint

    @pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AWS_REGION"])
    @pytest.mark.parametrize("ending", ["\n", "\r\nx-injected: yes", " "])
    def test_a_line_break_in_a_credential(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, name: str, ending: str
    ) -> None:
        """A credential that was read with its line break is said to be wrong; it never becomes a header of its own."""
        server = make_fault_server()
        environment = {"AWS_SESSION_TOKEN": "token", **server.environment()}
        environment[name] += ending
        with pytest.raises(StoreError) as caught:
            station.store(environment, engine, bucket=server.bucket)
        assert caught.value.scope is Scope.DESTINATION
        assert server.requests == []

    def test_temporary_credentials(self, engine: str, station: Station, make_fault_server: MakeFaultServer) -> None:
        """A session token goes along with every request, signed."""
        server = make_fault_server()
        environment = {**server.environment(), "AWS_SESSION_TOKEN": "a-token/with+signs=="}
        station.put(station.store(environment, engine, bucket=server.bucket), "key", b"content")
        for request in server.requests:
            assert request.headers["x-amz-security-token"] == "a-token/with+signs=="
            assert "x-amz-security-token" in request.headers["authorization"]

    def test_credentials_that_expire_are_renewed(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        tmp_path: Path,
    ) -> None:
        """Credentials of a process are asked for again before they expire, in the middle of a run."""
        server = make_fault_server()
        # botocore renews what has less than ten minutes left before it uses it.
        environment, calls = _given_by_a_process(tmp_path, server, minutes="5 if count < 3 else 60")
        set_environment(environment)
        store = station.store(environment, engine, bucket=server.bucket)
        for number in range(4):
            station.put(store, f"key-{number}", b"content")
        assert server.requests[-1].headers["x-amz-security-token"] == "token-3"
        assert calls.read_text() == "xxx"

    def test_a_token_that_is_refused_is_renewed_once(
        self,
        engine: str,
        station: Station,
        make_fault_server: MakeFaultServer,
        set_environment: SetEnvironment,
        tmp_path: Path,
    ) -> None:
        """What the server calls expired before its time is renewed, and the refused request goes out once more."""
        server = make_fault_server()
        environment, calls = _given_by_a_process(tmp_path, server, minutes="300")
        set_environment(environment)
        store = station.store(environment, engine, bucket=server.bucket)
        station.put(store, "before", b"content")
        server.faults.add(fault("ExpiredToken").only(operations="PutObject"))
        station.put(store, "after", b"content")
        assert server.requests[-1].headers["x-amz-security-token"] == "token-2"
        server.faults.add(fault("ExpiredToken").only(operations="PutObject").repeated(None))
        assert station.error(store, "never", b"content").code == "ExpiredToken"
        assert calls.read_text() in ("xx", "xxx")

    def test_expired_credentials(self, engine: str, station: Station, make_fault_server: MakeFaultServer) -> None:
        """Credentials that the server calls expired end the run and say where new ones come from."""
        server = make_fault_server()
        server.faults.add(fault("ExpiredToken").repeated(None))
        error = station.error(station.store(server.endpoint, engine), "key", b"content")
        assert (error.code, error.scope) == ("ExpiredToken", Scope.DESTINATION) or error.scope is Scope.DESTINATION
        assert error.hint


_SKEWED = """
import sys, time
sys.path.insert(0, {root!r})
from tests.integration.s3_support import Station
from tests.servers.base import S3Endpoint
with Station() as station:
    store = station.store(S3Endpoint(**{endpoint!r}), {engine!r})
    error = station.error(store, "key", b"content")
    print(error.scope.name, error.code, error.hint, sep="|")
"""


class TestClock:
    @pytest.mark.parametrize("hours", [-2, 2])
    def test_a_clock_that_is_wrong(
        self, real_s3: S3Endpoint, engine: str, clock_offset: Callable[[float], dict[str, str]], hours: int
    ) -> None:
        """Where this machine's clock is hours off every server refuses, and the error says by how much it is wrong."""
        endpoint = {
            name: getattr(real_s3, name) for name in ("endpoint_url", "access_key", "secret_key", "region", "bucket")
        }
        root = str(Path(__file__).parents[2])
        process = subprocess.run(
            [sys.executable, "-c", _SKEWED.format(root=root, endpoint=endpoint, engine=engine)],
            env={**clock_offset(hours * 3600), "PATH": "/usr/bin", "AWS_EC2_METADATA_DISABLED": "true", "HOME": root},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert process.returncode == 0, process.stderr
        scope, _, hint = process.stdout.strip().split("|")
        assert scope == "DESTINATION"
        assert "clock" in hint
        if real_s3.server == "rclone" and hours < 0:
            return  # It does not tell its own time then.
        seconds = int(next(word for word in hint.split() if word.isdigit()))
        assert abs(seconds - 7200) < 30, hint
        assert ("ahead of" if hours > 0 else "behind") in hint

    @pytest.mark.parametrize("code", ["RequestTimeTooSkewed", "AccessDenied", "SignatureDoesNotMatch"])
    def test_a_server_whose_clock_is_wrong(
        self, engine: str, station: Station, make_fault_server: MakeFaultServer, code: str
    ) -> None:
        """Whatever a server calls it, a clock that differs by an hour is named as the reason."""
        server = make_fault_server()
        server.clock_offset_seconds = 3600
        if code != "RequestTimeTooSkewed":
            server.faults.add(fault(code).repeated(None))
            server.clock_offset_seconds = 840
        error = station.error(station.store(server.endpoint, engine), "key", b"content")
        assert error.scope is Scope.DESTINATION
        assert "clock" in error.hint
        assert "behind" in error.hint


@pytest.mark.parametrize("value", ["a b", "a  b", " a", "a ", "a \t b", "\ta", "a\t", "", "a: b", "a=b; c=d"])
def test_space_in_headers_is_signed_as_amazon_does(value: str) -> None:
    """Space around a header's value is left out of the signature, and several spaces count as one: as botocore does."""
    theirs = AWSRequest("PUT", "https://example.com/b/k", headers={"x-amz-meta-a": value, "x-amz-meta-b": "b"})
    S3SigV4Auth(BotocoreCredentials("AKIAIOSFODNN7EXAMPLE", "secret"), "s3", "us-east-1").add_auth(theirs)
    now = calendar.timegm(time.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ"))
    headers = {"host": "example.com", "x-amz-meta-a": value, "x-amz-meta-b": "b"}
    signer = Signer(
        region="us-east-1",
        credentials=lambda: Credentials("AKIAIOSFODNN7EXAMPLE", "secret"),
        wall_clock=lambda: now,
    )
    digest = theirs.headers["X-Amz-Content-SHA256"]
    signer.sign(method="PUT", path="/b/k", query="", headers=headers, payload_hash=digest)
    assert headers["authorization"] == theirs.headers["Authorization"]


class TestRegions:
    def test_a_signing_key_belongs_to_its_region(self) -> None:
        """After a move to another region requests are signed for that one."""
        credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "secret")

        def sign(signer: Signer) -> str:
            headers = {"host": "example.com"}
            signer.sign(method="PUT", path="/b/k", query="", headers=headers, payload_hash="UNSIGNED-PAYLOAD")
            return headers["authorization"]

        moved = Signer(region="us-east-1", credentials=lambda: credentials, wall_clock=lambda: 1e9)
        sign(moved)
        moved.region = "eu-west-1"
        fresh = Signer(region="eu-west-1", credentials=lambda: credentials, wall_clock=lambda: 1e9)
        assert sign(moved) == sign(fresh)

    def test_a_bucket_in_another_region(self, station: Station, tmp_path: Path) -> None:
        """Uploads follow a bucket to its region, all those under way included."""

        def answer(request: RawRequest, connection: socket.socket) -> bytes:
            host = request.headers["host"]
            if "eu-west-1" in host and "/eu-west-1/s3/" in request.headers["authorization"]:
                return request.good()
            time.sleep(0.1)
            document = b"<Error><Code>PermanentRedirect</Code><Message>Elsewhere</Message></Error>"
            return (
                b"HTTP/1.1 301 Moved Permanently\r\nx-amz-bucket-region: eu-west-1\r\n"
                b"Content-Length: %d\r\n\r\n" % len(document) + document
            )

        context, authority = tls_context(tmp_path, names=("s3.us-east-1.amazonaws.com", "s3.eu-west-1.amazonaws.com"))
        with RawServer(answer, tls=context) as server:

            def make(access: Access, name: str, given: EngineSettings, notice: object) -> Engine:
                return NativeEngine(
                    access=access,
                    settings=EngineSettings(max_connections=8, connect_timeout_seconds=5),
                    resolve=lambda host, port: [(socket.AF_INET, ("127.0.0.1", server.port))],
                )

            environment = {
                "AWS_ACCESS_KEY_ID": "A",
                "AWS_SECRET_ACCESS_KEY": "B",
                "AWS_CA_BUNDLE": str(authority),
                "AWS_REGION": "us-east-1",
            }
            store = station.store(environment, "native", bucket="bucket", addressing_style="path", make_engine=make)
            futures = [station.begin(store, f"key-{number}", b"content") for number in range(20)]
            assert [future.exception(PATIENCE) for future in futures] == [None] * 20
            assert [level for level, _ in station.notices] == ["info"]
            assert "eu-west-1" in station.notices[0][1]


@pytest.fixture(scope="module")
def rclone_tls() -> Iterator[RcloneServer]:
    """Rclone with a private certificate, a real server behind TLS that is not written in Python."""
    with RcloneServer(tls=True) as server:
        yield server


def test_tls_to_real_servers(
    rclone_tls: RcloneServer, ceph_s3: S3Endpoint, ceph_server: object, engine: str, station: Station
) -> None:
    """Files of all sizes go through TLS to real servers, over connections that are used again."""
    tls_endpoint = getattr(ceph_server, "tls_endpoint")  # noqa: B009
    assert isinstance(tls_endpoint, S3Endpoint)
    for endpoint in (rclone_tls.new_bucket(), tls_endpoint.replace(bucket=ceph_s3.bucket)):
        store = station.store(endpoint, engine)
        for size in (0, 1, 16384, 16385, 1_000_000, PART + 1):
            assert station.put(store, f"key-{size}", pattern(size)).proof >= Proof.MD5
            assert endpoint.read(f"key-{size}") == pattern(size)
