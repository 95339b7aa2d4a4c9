"""What destinations have in common that are servers with files, directories and renames: FTP and SFTP."""
