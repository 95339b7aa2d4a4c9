"""ProFTPD: a real FTP server, with explicit FTPS and the hash extensions."""

from __future__ import annotations

import contextlib
import ftplib
import grp
import hashlib
import os
import pwd
import secrets
import shutil
import ssl
from pathlib import Path

from tests.servers import debian
from tests.servers.base import Server
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.process import accepts_connections, free_ports, wait_until

COMMON = """\
ServerType standalone
ServerName test
DefaultAddress 127.0.0.1
SocketBindTight on
Port {port}
UseReverseDNS off
UseIPv6 off
User {user}
Group {group}
MaxInstances 200
PidFile {directory}/proftpd.pid
ScoreboardFile {directory}/scoreboard
DelayTable {directory}/delay
SystemLog {directory}/system.log
TransferLog none
WtmpLog off
AuthPAM off
AuthOrder mod_auth_file.c
AuthUserFile {directory}/passwd
RequireValidShell off
DefaultRoot ~
AllowOverwrite on
Umask 022
"""
"""What each of the ProFTPD servers here is configured with, whatever protocol it speaks."""
_CONFIGURATION = f"""\
LoadModule mod_tls.c
LoadModule mod_digest.c
{COMMON}\
PassivePorts 18560 31999
DigestEngine on
DigestAlgorithms all
AllowStoreRestart on
AllowRetrieveRestart on
TimeoutIdle 600
<IfModule mod_tls.c>
TLSEngine on
TLSRequired {{tls_required}}
TLSProtocol TLSv1.2 TLSv1.3
TLSECCertificateFile {{certificate}}
TLSECCertificateKeyFile {{key}}
TLSOptions NoSessionReuseRequired
</IfModule>
"""


class ProftpdServer(Server):
    """FTP and explicit FTPS on one port, with one user whose directory is `root`.

    It knows MLSD, SIZE, HASH and XSHA256. Like every FTP server it leaves the partial file behind after a cut
    connection. With `tls_required` plain logins are refused.
    """

    name = "proftpd"

    def __init__(self, *, tls_required: bool = False) -> None:
        super().__init__()
        self._tls_required = tls_required
        self.host = "127.0.0.1"
        self.port = 0
        self.username = "tester"
        self.password = ""
        self.certificates: Certificates | None = None

    @property
    def root(self) -> Path:
        """The directory that the user sees as `/`."""
        return self.directory / "root"

    @property
    def ca_bundle(self) -> Path:
        """The file with the authority that signed the server's certificate."""
        assert self.certificates is not None, "the server does not run"
        return self.certificates.authority

    def _launch(self) -> None:
        debian.require("proftpd")
        program = debian.find_program("proftpd")
        assert program is not None
        if os.geteuid() != 0:
            raise debian.Unavailable("only root can have a ProFTPD that shows its user one directory as /")
        (self.port,) = free_ports()
        self.password = secrets.token_hex(12)
        self.certificates = make_certificates(self.directory)
        self.root.mkdir()
        # As root the server changes to an ordinary user, and would refuse a login as root.
        owner = pwd.getpwnam("nobody")
        self.directory.chmod(0o755)
        shutil.chown(self.root, owner.pw_uid, owner.pw_gid)
        passwd = self.directory / "passwd"
        passwd.touch(mode=0o600)
        passwd.write_text(password_entry(self.username, self.password, owner, self.root))
        configuration = self.directory / "proftpd.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                port=self.port,
                user=owner.pw_name,
                group=grp.getgrgid(owner.pw_gid).gr_name,
                directory=self.directory,
                tls_required="on" if self._tls_required else "off",
                certificate=self.certificates.certificate,
                key=self.certificates.key,
            )
        )
        process = self._run("proftpd", [program, "-n", "-q", "-c", configuration])
        wait_until(lambda: accepts_connections(self.port), what="proftpd listened", processes=[process])

    def client(self) -> ftplib.FTP:
        """Return a client that is logged in, without TLS."""
        client = ftplib.FTP(timeout=20)
        client.connect(self.host, self.port)
        client.login(self.username, self.password)
        return client

    def tls_client(self) -> ftplib.FTP_TLS:
        """Return a client that is logged in with explicit TLS, its data connections protected too."""
        client = ftplib.FTP_TLS(context=ssl.create_default_context(cafile=str(self.ca_bundle)), timeout=20)
        client.connect(self.host, self.port)
        client.login(self.username, self.password)
        client.prot_p()
        return client

    def files(self) -> dict[str, bytes]:
        """Return every file below `root` by its path."""
        found = {}
        for path in sorted(self.root.rglob("*")):
            with contextlib.suppress(OSError):
                if path.is_file():
                    found[str(path.relative_to(self.root))] = path.read_bytes()
        return found


def password_entry(username: str, password: str, owner: pwd.struct_passwd, home: Path) -> str:
    """Return the line of a user who is in truth another one, as a passwd file has it."""
    entry = (username, _crypt(password), owner.pw_uid, owner.pw_gid, "", home, "/bin/false")
    return ":".join(map(str, entry)) + "\n"


def _crypt(password: str) -> str:
    """Return a password as a passwd file holds it (SHA-512 crypt, what every Linux's crypt(3) can verify).

    Python's own `crypt` module is gone since 3.13.
    """
    # The algorithm: https://www.akkadia.org/drepper/SHA-crypt.txt
    key, salt = password.encode(), secrets.token_hex(8).encode()
    alternate = hashlib.sha512(key + salt + key).digest()
    context = hashlib.sha512(key + salt + (alternate * (len(key) // 64 + 1))[: len(key)])
    length = len(key)
    while length:
        context.update(alternate if length & 1 else key)
        length >>= 1
    digest = context.digest()
    key_bytes = (hashlib.sha512(key * len(key)).digest() * (len(key) // 64 + 1))[: len(key)]
    salt_bytes = hashlib.sha512(salt * (16 + digest[0])).digest()[: len(salt)]
    for turn in range(5000):
        part = key_bytes if turn & 1 else digest
        part += salt_bytes if turn % 3 else b""
        part += key_bytes if turn % 7 else b""
        part += digest if turn & 1 else key_bytes
        digest = hashlib.sha512(part).digest()
    alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    text = ""
    first, second, third = 0, 21, 42
    for _ in range(21):
        value = digest[first] << 16 | digest[second] << 8 | digest[third]
        text += "".join(alphabet[value >> shift & 63] for shift in (0, 6, 12, 18))
        first, second, third = second + 1, third + 1, first + 1
    return f"$6${salt.decode()}${text}{alphabet[digest[63] & 63]}{alphabet[digest[63] >> 6]}"
