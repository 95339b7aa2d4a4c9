"""The parts of a file that goes up in parts: which there are, and what the whole is, given what each is."""

from __future__ import annotations

import re

import msgspec

from s3_uploader.stores.s3.checksums import Digest, combine_crc32, crc32_text, md5_of

_HEX = re.compile("[0-9a-f]{32}")


class Part(msgspec.Struct):
    """One part: what we know of its bytes, and what the server said."""

    number: int
    first: int
    size: int
    crc32: int = 0
    md5: str = ""
    etag: str = ""
    echoed: bool = False
    etag_is_md5: bool = False
    done: bool = False


def plan_parts(size: int, part_size: int) -> list[Part]:
    """The parts of a file, the last one as long as what is left."""
    return [
        Part(number, first, min(part_size, size - first))
        for number, first in enumerate(range(0, size, part_size), start=1)
    ]


def digest_of_parts(parts: list[Part], size: int) -> Digest:
    """Checksum of the whole from the parts', and the ETag that an object of these parts has.

    Where our own MD5s were not computed, the ETags of the parts stand in for them: their bytes are proven by checksum.
    """
    whole = 0
    md5s = bytearray()
    comparable = bool(parts)
    for part in parts:
        whole = combine_crc32(whole, part.crc32, part.size)
        md5 = part.md5 or (part.etag.lower() if part.etag_is_md5 and part.echoed else "")
        if comparable and _HEX.fullmatch(md5):
            md5s += bytes.fromhex(md5)
        else:
            comparable = False
    etag = f"{md5_of(bytes(md5s)).hexdigest()}-{len(parts)}" if comparable else ""
    return Digest(size=size, crc32=crc32_text(whole), md5=etag)
