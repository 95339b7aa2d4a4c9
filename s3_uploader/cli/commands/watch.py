"""The command line of ``watch``."""

from __future__ import annotations

import click

from s3_uploader.cli.arguments import WatchOptions
from s3_uploader.cli.options import several_configured, takes


@click.command(short_help="Ship files as they appear, until told to stop.")
@several_configured
@takes(WatchOptions)
def watch(config_files: tuple[str, ...], options: WatchOptions) -> int:
    """Ship files as they appear, until told to stop.

    With several files or a directory of them, each spool is watched by a process of its own, so that none depends on
    another. SIGTERM and Ctrl-C finish the uploads in flight and stop, and so does closing the terminal. SIGHUP reloads
    the configuration otherwise.

    \b
    Example, for a systemd service:
      ExecStart=/usr/local/bin/s3-uploader-cli watch /etc/s3-uploader/config.json
    """
    from s3_uploader.cli.directory import is_one_file

    if is_one_file(config_files):
        from s3_uploader.cli.watch import watch as work

        return work(config_files[0], options)
    from s3_uploader.cli.watch_many import watch_many

    return watch_many(config_files, options)
