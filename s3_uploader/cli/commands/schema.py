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
    import msgspec

    from s3_uploader.config.json_schema import json_schema

    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
    return 0
