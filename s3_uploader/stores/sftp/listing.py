"""The inventory of an SFTP server, on a loop of its own."""

from __future__ import annotations

from s3_uploader.stores.file_servers.listing import FileInventory
from s3_uploader.stores.sftp.server import Server


class SftpInventory(FileInventory):
    """A directory on an SFTP server. Closing it also ends the server's loop."""

    has_line_breaks = True

    def __init__(
        self, server: Server, *, concurrency: int, seconds: float = float("inf"), until: float = float("inf")
    ) -> None:
        super().__init__(server, concurrency=concurrency, seconds=seconds, until=until)
        self._sftp = server

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._sftp.stop()
