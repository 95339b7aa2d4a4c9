"""The command line of ``schema``."""

from __future__ import annotations

import click


@click.command(short_help="The JSON Schema of the configuration file.")
def schema() -> int:
    """Print the JSON Schema of the configuration file.

    \b
    Example, for an editor:
      s3-uploader-cli schema > s3-uploader.schema.json
    """
    from s3_uploader.cli.output import print_json
    from s3_uploader.config.json_schema import json_schema

    print_json(json_schema())
    return 0
