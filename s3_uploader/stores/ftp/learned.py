"""What was learned about an FTP server beyond other file servers: how to open a data connection."""

from __future__ import annotations

from s3_uploader.stores.file_servers.learned import Learned


class FtpLearned(Learned):
    """What is known about one FTP server. Any thread may use it."""

    @property
    def passive(self) -> str:
        """The command that opens data connections: ``PASV``, ``EPSV``, or empty if unknown."""
        return self.get("passive")

    @passive.setter
    def passive(self, command: str) -> None:
        self.put("passive", command)
