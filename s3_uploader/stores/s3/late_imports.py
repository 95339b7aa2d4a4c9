"""What most runs do without is imported with the first upload that needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3_uploader.core.errors import StoreError, lacking
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.single import SingleUpload
from s3_uploader.stores.s3.upload import Context, Put

if TYPE_CHECKING:
    from s3_uploader.stores.s3.multipart import MultipartUpload


def in_parts(context: Context, put: Put) -> MultipartUpload:
    """Make an upload in parts. Its modules are imported with the first large file, because most runs have none.

    :raises StoreError: if they cannot be imported now, for example because too many files are open.
    """
    try:
        from s3_uploader.stores.s3.multipart import MultipartUpload
    except (ImportError, OSError) as error:
        raise _not_imported("The upload in parts", error) from error

    return MultipartUpload(context, put)


def doubt_name(upload: SingleUpload | MultipartUpload) -> None:
    """Have an unusual name checked. Errors as with :func:`in_parts`."""
    try:
        from s3_uploader.stores.s3.names import doubt_name as doubt
    except (ImportError, OSError) as error:
        raise _not_imported("The check of unusual names", error) from error

    doubt(upload)


def _not_imported(what: str, error: Exception) -> StoreError:
    fact = f"{what} cannot be imported"
    return lacking(fact, error) or StoreError(
        f"{fact}: {error}.", code="Unexpected", origin=Origin.OURS, retryable=True
    )
