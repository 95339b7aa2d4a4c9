"""The JSON Schema of the configuration file, with which editors complete and check it."""

from __future__ import annotations

from typing import Any

import msgspec

from s3_uploader.config.schema import Config
from s3_uploader.config.units import DURATION, SIZE, is_duration, is_size

_BUCKET = "bucket"
_SYNONYM = "s3_bucket"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file, short form of the destination included.

    It states what the types state: names, types, choices, ranges, and which keys go together. Only
    :func:`~s3_uploader.config.load` checks, for example, whether a time zone exists.
    """
    (schema,), definitions = msgspec.json.schema_components([Config], ref_template="#/$defs/{name}")
    long_form = definitions["S3Destination"]
    short_form = {name: value for name, value in long_form["properties"].items() if name != "type"}
    short_form[_SYNONYM] = short_form[_BUCKET]
    long_form["properties"][_SYNONYM] = short_form[_BUCKET]
    long_form["required"] = ["type"]
    long_form["oneOf"] = [{"required": [name]} for name in (_BUCKET, _SYNONYM)]
    config = definitions["Config"]
    config["properties"] |= short_form
    config["required"].remove("destination")
    config["oneOf"] = [{"required": [name]} for name in (_BUCKET, _SYNONYM, "destination")]
    # The keys of the short form may be beside base_dir only if the long form is not used.
    for definition in definitions.values():
        _allow_units(definition.get("properties", {}))
    config["properties"] |= {
        "$schema": {"type": "string", "description": "Where this schema is, for editors."},
        "$include": {
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
            "description": "Files with defaults, over which this file lies. Their paths are relative to it.",
        },
    }
    config["dependentSchemas"] = {"destination": {"properties": dict.fromkeys(short_form, False)}}
    schema["allowTrailingCommas"] = True  # so that Visual Studio Code does not mark them as mistakes
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "$defs": definitions}


def _allow_units(properties: dict[str, Any]) -> None:
    """Let durations and sizes be written with their units too."""
    for name, schema in properties.items():
        pattern = DURATION if is_duration(name) else SIZE if is_size(name) else None
        if pattern is not None:
            about = {key: value for key, value in schema.items() if key in ("description", "default")}
            plain = {key: value for key, value in schema.items() if key not in about}
            properties[name] = {"anyOf": [plain, {"type": "string", "pattern": pattern}], **about}
