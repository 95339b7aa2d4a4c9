"""What was learned of an FTP server beside what every file server may teach: the way to a data connection."""

from __future__ import annotations

from s3_uploader.stores.file_servers.learned import Learned


class FtpLearned(Learned):
    """Any thread may use it."""

    @property
    def passive(self) -> str:
        """The command by which data connections came up: ``PASV``, ``EPSV``, or empty."""
        return self.get("passive")

    @passive.setter
    def passive(self, command: str) -> None:
        self.put("passive", command)
