"""The common part of destinations that are servers with files, directories and renames: FTP and SFTP."""
