"""SFTP as a destination: files over SSH, with the library asyncssh (the extra ``sftp``)."""
