"""Whether an answer proves that the server has our bytes: pure functions of headers and our own digests.

Servers differ, so there are three levels: the returned checksum compared with ours, the ETag compared with our MD5, and
the length. If there are two of them, neither may contradict.
"""

from __future__ import annotations

import binascii
import enum
import hashlib
import io
import os
import re
import zlib
from collections.abc import Callable, Mapping

import msgspec

from s3_uploader.core.errors import SourceChanged, failed_read
from s3_uploader.core.model import Proof
from s3_uploader.core.text import is_number, quoted_code

_MD5 = "[0-9a-fA-F]{32}"
_MD5_OF_PARTS = "[0-9a-fA-F]{32}-[0-9]+"


class Digest(msgspec.Struct, frozen=True, kw_only=True):
    """Our digests of the bytes that were sent.

    :param crc32: of the whole, in base64 as S3 writes it; empty if not computed.
    :param md5: hexadecimal. For an object made of parts it is the MD5 of the parts' MD5s with their number, as S3
        writes its ETag. Empty if not computed.
    :param composite: for an object made of parts, the CRC-32 of the parts' CRC-32s with their number, as S3 writes it.
    """

    size: int
    crc32: str
    md5: str
    composite: str = ""


class Evidence(msgspec.Struct, frozen=True):
    """What an answer proves about our bytes.

    :param contradiction: a sentence, if the checksum says that the bytes differ.
    :param doubt: a sentence, if the ETag says so, which only a look at the object can decide.
    :param md5_matched: whether the ETag is the MD5 of our bytes.
    :param etag: the ETag without quotes; empty with a contradiction.
    """

    proof: Proof = Proof.NONE
    contradiction: str = ""
    doubt: str = ""
    md5_matched: bool = False
    etag: str = ""


class Comparison(enum.Enum):
    """The result of comparing an existing object with our bytes."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


def digest_of(body: bytes, *, with_md5: bool = True) -> Digest:
    """The digest of an object that is sent in one request."""
    md5 = hashlib.md5(body, usedforsecurity=False).hexdigest() if with_md5 else ""
    return Digest(size=len(body), crc32=crc32_text(zlib.crc32(body)), md5=md5)


def md5_of(body: bytes) -> hashlib._Hash:
    """MD5, which S3 uses to detect damage. It is not used for security, and FIPS builds are told so."""
    return hashlib.md5(body, usedforsecurity=False)


def crc32_text(value: int) -> str:
    """A CRC-32 as S3 writes it."""
    return binascii.b2a_base64(value.to_bytes(4, "big"), newline=False).decode()


def clean_etag(value: str) -> str:
    """An ETag without quotes. A weak one keeps its mark ``W/``, so it cannot be taken for an MD5."""
    value = value.strip()
    if value.startswith(("W/", "w/")):
        return "W/" + value[2:].strip('"')
    return value.strip('"')


def strong_etag(etag: str) -> str:
    """An ETag without the mark of a weak one, which a proxy may have added: the server knows the object by this one."""
    return etag[2:] if etag.startswith("W/") else etag


def etag_is_md5(etag: str, headers: Mapping[str, str]) -> bool:
    """Whether the ETag looks like an MD5 of the bytes, and the object is not encrypted with a key.

    With SSE-KMS and SSE-C the ETag is not an MD5 (Amazon S3 API reference, "Object": ETag).
    """
    return re.fullmatch(_MD5, etag) is not None and not _encrypted_with_key(headers)


def evidence(headers: Mapping[str, str], digest: Digest, *, etag_counts: bool = True) -> Evidence:
    """What the answer to an upload proves, for a whole object, a part, or an object made of parts.

    A matching checksum is a proof, whatever the ETag is, and an ETag that is our MD5 is one, too. Any other ETag is
    not:
    with SSE-KMS, on gateways and behind proxies it may be anything, even 32 hexadecimal digits.

    :param etag_counts: the endpoint's ETags have been MD5s, so a different MD5 is a doubt.
    """
    proof = Proof.NONE
    checksum = _crc32_in(headers)
    if checksum and digest.crc32:
        expected = digest.composite if "-" in checksum else digest.crc32
        if expected and checksum != expected:
            return Evidence(
                contradiction=f"The server says that it stored bytes with the CRC32 {quoted_code(checksum)}, "
                f"but those sent have {expected}."
            )
        if expected:
            proof = Proof.CHECKSUM
    etag = clean_etag(headers.get("etag", ""))
    if etag and digest.md5 and not _encrypted_with_key(headers):
        if etag.lower() == digest.md5:
            return Evidence(max(proof, Proof.MD5), md5_matched=True, etag=etag)
        if etag_counts and re.fullmatch(_MD5_OF_PARTS if "-" in digest.md5 else _MD5, etag):
            return Evidence(
                proof,
                doubt=f"The server says that it stored bytes with the MD5 {etag}, but those sent have {digest.md5}.",
                etag=etag,
            )
    return Evidence(proof, etag=etag)


def compare(
    headers: Mapping[str, str], digest: Digest, *, etag_counts: bool = True, just_written: bool = False
) -> tuple[Comparison, Proof]:
    """Compare the object in the answer to a HEAD with our bytes, and say how we know if it is the same.

    A different ETag of parts says nothing, because the parts may have had another size.

    :param etag_counts: the endpoint's ETags have been MD5s, so a different one means other content.
    :param just_written: it is the object that we have just written. Then a checksum of 32 bits is enough, because it
        shows that nothing was damaged. For an object that was found it is not enough: all files of one length that
        end with their own CRC-32, as in many formats, have the same CRC-32 as a whole. For a written object, on the
        other hand, the bytes themselves are a better proof than an ETag.
    """
    if length_differs(headers, digest):
        return Comparison.DIFFERENT, Proof.NONE
    proof = Proof.NONE
    checksum = _crc32_in(headers)
    if checksum and digest.crc32 and "-" not in checksum:
        if checksum != digest.crc32:
            return Comparison.DIFFERENT, Proof.NONE
        proof = Proof.CHECKSUM
    elif checksum and checksum == digest.composite:
        proof = Proof.CHECKSUM
    etag = clean_etag(headers.get("etag", ""))
    same_md5 = False
    if digest.md5 and not _encrypted_with_key(headers):
        if etag.lower() == digest.md5:
            same_md5, proof = True, max(proof, Proof.MD5)
        elif etag_counts and re.fullmatch(_MD5, etag) and "-" not in digest.md5:
            # rclone repeats the checksum that it was sent; its ETag is that of the stored bytes.
            return Comparison.UNKNOWN if just_written else Comparison.DIFFERENT, Proof.NONE
    if proof is Proof.NONE or not (same_md5 or just_written):
        return Comparison.UNKNOWN, Proof.NONE
    return Comparison.SAME, proof


def _crc32_in(headers: Mapping[str, str]) -> str:
    """The CRC-32 in an answer. A proxy or a library may have joined a repeated header (RFC 9110, 5.3)."""
    checksum = headers.get("x-amz-checksum-crc32", "")
    if "," in checksum:
        values = {value.strip() for value in checksum.split(",")}
        return values.pop() if len(values) == 1 else checksum
    return checksum


def length_differs(headers: Mapping[str, str], digest: Digest) -> bool:
    """Whether the answer to a HEAD names another length than ours."""
    length = headers.get("content-length", "")
    return is_number(length) and int(length) != digest.size


def is_encoded(headers: Mapping[str, str], own: str) -> bool:
    """Whether the bytes have another encoding in this answer than stored, so that it says nothing about them.

    :param own: the encoding with which the object was stored.
    """
    encodings = {part.strip().lower() for part in headers.get("content-encoding", "").split(",")}
    return bool(encodings - {"", "identity", "aws-chunked", own})


def _encrypted_with_key(headers: Mapping[str, str]) -> bool:
    return (
        headers.get("x-amz-server-side-encryption", "").startswith("aws:kms")
        or "x-amz-server-side-encryption-customer-algorithm" in headers
        or "x-amz-server-side-encryption-aws-kms-key-id" in headers
    )


# The CRC-32 of joined pieces, without reading them again. zlib has this function, Python's zlib module does not.
# A CRC is a polynomial over GF(2); appending n zero bytes multiplies it by x**(8n) modulo the CRC's own polynomial.
_POLYNOMIAL = 0xEDB88320


def combine_crc32(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two joined pieces of bytes, from that of each and the size of the second."""
    return _multiply(_power_of_x(8 * second_size), first) ^ second


def _multiply(a: int, b: int) -> int:
    product = 0
    mask = 1 << 31
    while mask:
        if a & mask:
            product ^= b
        mask >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _power_of_x(exponent: int) -> int:
    power = 1 << 31  # The bits of a CRC are reflected: the highest is x**0.
    square = 1 << 30
    while exponent:
        if exponent & 1:
            power = _multiply(square, power)
        square = _multiply(square, square)
        exponent >>= 1
    return power


_HEX = "[0-9a-f]{32}"


class Part(msgspec.Struct):
    """One part: our digests of its bytes, and the server's answer."""

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
    """The parts of a file. The last one has the rest."""
    return [
        Part(number, first, min(part_size, size - first))
        for number, first in enumerate(range(0, size, part_size), start=1)
    ]


def digest_of_parts(parts: list[Part], size: int) -> Digest:
    """The checksum of the whole from those of the parts, and the ETag of an object made of these parts.

    If our own MD5s were not computed, the ETags of the parts are used: the bytes of the parts are proven by checksum.
    """
    whole = 0
    md5s = bytearray()
    crcs = bytearray()
    comparable = bool(parts)
    for part in parts:
        whole = combine_crc32(whole, part.crc32, part.size)
        crcs += part.crc32.to_bytes(4, "big")
        md5 = part.md5 or (part.etag.lower() if part.etag_is_md5 and part.echoed else "")
        if comparable and re.fullmatch(_HEX, md5):
            md5s += bytes.fromhex(md5)
        else:
            comparable = False
    etag = f"{md5_of(bytes(md5s)).hexdigest()}-{len(parts)}" if comparable else ""
    composite = f"{crc32_text(zlib.crc32(crcs))}-{len(parts)}"
    return Digest(size=size, crc32=crc32_text(whole), md5=etag, composite=composite)


_STEP = 256 * 1024
"""How many bytes at a time go through all digests while they are in the processor's cache. One digest after another
over a part of several MiB would fetch it from memory each time; the CRC alone would take twice as long."""


class Digested(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of a file with their digests; ``md5`` and ``sha256`` are hexadecimal, and empty unless requested."""

    body: bytes
    crc32: int
    md5: str
    sha256: str


def read_exactly(descriptor: int, first: int, size: int) -> bytes:
    """Read bytes of a file.

    :raises SourceChanged: if there are fewer.
    :raises SourceUnreadable: if they cannot be read.
    """
    try:
        data = os.pread(descriptor, size, first)
        if len(data) == size:
            return data
        pieces = [data]
        missing = size - len(data)
        while missing and data:
            data = os.pread(descriptor, missing, first + size - missing)
            pieces.append(data)
            missing -= len(data)
    except OSError as error:
        raise failed_read(first, error) from None
    if missing:
        raise _shrunk(size - missing, size, first)
    return b"".join(pieces)


def read_digested(descriptor: int, first: int, size: int, *, md5: bool, sha256: bool) -> Digested:
    """Read bytes of a file with their CRC-32, and with their MD5 and SHA-256 if requested.

    :raises SourceChanged: if there are fewer.
    :raises SourceUnreadable: if they cannot be read.
    """
    buffer = io.BytesIO(bytes(size))
    crc32 = 0
    hashes = [md5_of(b"") if md5 else None, hashlib.sha256() if sha256 else None]
    updates: list[Callable[[memoryview], None]] = [each.update for each in hashes if each is not None]
    with buffer.getbuffer() as view:
        done = 0
        while done < size:
            with view[done : done + _STEP] as room:
                try:
                    count = os.preadv(descriptor, [room], first + done)
                except OSError as error:
                    raise failed_read(first + done, error) from None
                if not count:
                    raise _shrunk(done, size, first)
                with room[:count] as piece:
                    crc32 = zlib.crc32(piece, crc32)
                    for update in updates:
                        update(piece)
            done += count
    texts = ["" if each is None else each.hexdigest() for each in hashes]
    # The buffer's own bytes instead of a copy, because nothing can write to them any more.
    return Digested(body=buffer.getvalue(), crc32=crc32, md5=texts[0], sha256=texts[1])


def _shrunk(there: int, size: int, first: int) -> SourceChanged:
    return SourceChanged(f"The file shrank: only {there} of {size} bytes were there from offset {first}.")
