"""AWS credentials and settings as values, and the errors of what should give them."""

from __future__ import annotations

from typing import Any

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.core.text import quoted

_CHECK_SOURCE = "Check the source of this machine's credentials: credential_process, the role, or the login."


class Credentials(msgspec.Struct, frozen=True):
    """AWS credentials; temporary ones have a ``token``."""

    access_key: str
    secret_key: str
    token: str = ""


class AwsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment or the AWS tools' files say beside the configuration.

    :param session: the botocore session that found it, if there is one.
    :param dualstack: whether to use such endpoints, as written; so are ``fips``, ``accelerate`` and ``signs_payload``.
    """

    session: Any = None
    endpoint_url: str | None
    region: str | None
    addressing_style: str = "auto"
    ca_bundle: str | None
    dualstack: str
    fips: str
    accelerate: str = ""
    signs_payload: object = None


def no_credentials(unread: str = "") -> StoreError:
    """The error of a run without any credentials.

    :param unread: a file that might have them and cannot be read, with the reason.
    """
    first = "Correct that, or set" if unread else "Set"
    return StoreError(
        f"Unable to locate credentials{unread and f', and {unread}'}.",
        code="NoCredentials",
        origin=Origin.CREDENTIAL_SOURCE,
        scope=Scope.DESTINATION,
        hint=f"{first} AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or profile, or give the machine a role.",
    )


def unavailable(detail: str, *, code: str = "CredentialsUnavailable", hint: str = _CHECK_SOURCE) -> StoreError:
    """The error of a run whose source of credentials fails."""
    return StoreError(
        f"There are no usable AWS credentials: {quoted(detail).rstrip('.')}.",
        code=code,
        origin=Origin.CREDENTIAL_SOURCE,
        scope=Scope.DESTINATION,
        hint=hint,
    )


def unusable_configuration(detail: str) -> StoreError:
    """The error of a run whose AWS files or variables have a value that botocore cannot use."""
    return StoreError(
        f"The AWS configuration cannot be used: {quoted(detail)}",
        code="AwsConfiguration",
        origin=Origin.SETTING,
        scope=Scope.DESTINATION,
        hint="Check profile, the files ~/.aws/config and ~/.aws/credentials, and the environment variables AWS_*.",
    )
