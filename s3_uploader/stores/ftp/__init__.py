"""FTP and explicit FTPS as a destination."""
