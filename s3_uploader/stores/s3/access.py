"""The endpoint of a bucket and its credentials, from the configuration, the environment and the AWS tools' files.

An AWS configuration works as with boto3. botocore is used only if there are configuration files or a profile, because
its import takes most of the time of a short run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from s3_uploader.core.errors import Scope, StoreError
from s3_uploader.core.origins import Origin
from s3_uploader.stores.s3.credentials import Credentials, no_credentials, unusable_configuration
from s3_uploader.stores.s3.endpoint import Endpoint, locate

_CREDENTIAL = re.compile("[!-~]*")
_TRUE = ("true", "1", "yes", "on")


def _cannot_renew() -> bool:
    return False


class Access(msgspec.Struct, frozen=True):
    """An endpoint, and the function that returns its current credentials.

    The function raises ``StoreError`` if there are none. ``session`` is the botocore session behind it, if there is
    one.
    """

    endpoint: Endpoint
    credentials: Callable[[], Credentials]
    session: Any = None
    renew: Callable[[], bool] = _cannot_renew


def resolve(
    *,
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    addressing_style: str,
    environment: Mapping[str, str],
    credentials: Credentials | None = None,
    client_certificate_file: str | None = None,
) -> Access:
    """Find the bucket's endpoint and the credentials.

    :param client_certificate_file: see :class:`s3_uploader.stores.s3.endpoint.Endpoint`.
    :param credentials: those of a calling program; then no others are searched for.
    :raises StoreError: if there are no credentials or the configuration is invalid.
    """
    if profile or not _environment_is_enough(environment, given=credentials is not None):
        return _with_botocore(
            bucket,
            endpoint_url,
            region,
            profile,
            addressing_style,
            environment,
            credentials,
            client_certificate_file,
        )
    usable = _usable(
        credentials
        or Credentials(
            environment["AWS_ACCESS_KEY_ID"],
            environment["AWS_SECRET_ACCESS_KEY"],
            environment.get("AWS_SESSION_TOKEN", ""),
        )
    )
    if endpoint_url is None and not _is_true(environment.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")):
        endpoint_url = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or None
    endpoint = locate(
        bucket=bucket,
        endpoint_url=endpoint_url,
        region=region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION"),
        addressing_style=addressing_style,
        ca_bundle=environment.get("AWS_CA_BUNDLE") or environment.get("REQUESTS_CA_BUNDLE"),
        client_certificate_file=client_certificate_file,
        special=_special(
            bucket,
            dualstack=environment.get("AWS_USE_DUALSTACK_ENDPOINT", ""),
            fips=environment.get("AWS_USE_FIPS_ENDPOINT", ""),
        ),
        environment=environment,
    )
    return Access(endpoint, lambda: usable)


def checksums_when_required(access: Access, environment: Mapping[str, str]) -> bool:
    """Whether the AWS configuration wants checksum headers only where an operation requires them."""
    value = environment.get("AWS_REQUEST_CHECKSUM_CALCULATION")
    if value is None and access.session is not None:
        value = access.session.get_config_variable("request_checksum_calculation")
    return str(value or "").strip().lower() == "when_required"


def _special(bucket: str, *, dualstack: str, fips: str, accelerate: str = "") -> str:
    if bucket.startswith("arn:"):
        return "the bucket is an ARN"
    if bucket.endswith("--x-s3"):
        return "the bucket is a directory bucket"
    for name, value in (("dual-stack", dualstack), ("FIPS", fips), ("accelerated", accelerate)):
        if _is_true(value):
            return f"the AWS configuration asks for {name} endpoints"
    return ""


def _is_true(value: object) -> bool:
    """Whether an SDK setting is on. botocore accepts only ``true``, in any case; other SDKs accept more."""
    return str(value).strip().lower() in _TRUE


def _environment_is_enough(environment: Mapping[str, str], *, given: bool = False) -> bool:
    """Whether the credentials are static, without a profile or a configuration file that could add to them.

    :param given: a calling program has given the credentials.
    """
    if not given and not (environment.get("AWS_ACCESS_KEY_ID") and environment.get("AWS_SECRET_ACCESS_KEY")):
        return False
    if environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE"):
        return False
    files = (
        environment.get("AWS_CONFIG_FILE") or "~/.aws/config",
        environment.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
    )
    # /dev/null is a common way to say that there is no file; a device is not a file.
    return not any(os.path.isfile(os.path.expanduser(name)) for name in files)


def _with_botocore(
    bucket: str,
    endpoint_url: str | None,
    region: str | None,
    profile: str | None,
    addressing_style: str,
    environment: Mapping[str, str],
    given: Credentials | None,
    client_certificate_file: str | None,
) -> Access:
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    from s3_uploader.stores.s3.helpers import RenewedCredentials, find

    try:
        session = Session(profile=profile)
        if endpoint_url is None:
            endpoint_url = _configured_endpoint(session)
        nested = session.get_scoped_config().get("s3")
        s3: dict[str, Any] = nested if isinstance(nested, dict) else {}
        if addressing_style == "auto":
            addressing_style = s3.get("addressing_style", "auto")
        endpoint = locate(
            bucket=bucket,
            endpoint_url=endpoint_url,
            # botocore reads AWS_DEFAULT_REGION only; the other SDKs and the AWS CLI also read AWS_REGION.
            region=region or environment.get("AWS_REGION") or session.get_config_variable("region"),
            addressing_style=addressing_style,
            ca_bundle=session.get_config_variable("ca_bundle") or environment.get("REQUESTS_CA_BUNDLE"),
            client_certificate_file=client_certificate_file,
            special=_special(
                bucket,
                dualstack=str(
                    session.get_config_variable("use_dualstack_endpoint") or s3.get("use_dualstack_endpoint", "")
                ),
                fips=str(session.get_config_variable("use_fips_endpoint") or ""),
                accelerate=str(s3.get("use_accelerate_endpoint", "")),
            ),
            environment=environment,
        )
    except BotoCoreError as error:
        raise unusable_configuration(str(error)) from None
    if _is_true(s3.get("payload_signing_enabled")):
        endpoint = msgspec.structs.replace(endpoint, signs_payload=True)
    if given is not None:
        usable = _usable(given)
        session.set_credentials(usable.access_key, usable.secret_key, usable.token or None)
        return Access(endpoint, lambda: usable, session)
    found = find(session)
    if found is None:
        raise no_credentials()
    credentials = RenewedCredentials(found, usable=_usable)
    return Access(endpoint, credentials, session, credentials.renew)


def _configured_endpoint(session: Any) -> str | None:
    from botocore.configprovider import ConfiguredEndpointProvider

    if _is_true(session.get_config_variable("ignore_configured_endpoint_urls")):
        return None
    url: str | None = ConfiguredEndpointProvider(
        full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
    ).provide()
    return url


def _usable(credentials: Credentials) -> Credentials:
    """Check that credentials can be sent in a header. A line break at the end is a common mistake."""
    secret = credentials.secret_key
    if secret != secret.strip() or any(character < " " or character == "\x7f" for character in secret):
        raise StoreError(
            "The secret key in use begins or ends with a space or a line break, or has a control character.",
            code="InvalidCredentials",
            origin=Origin.CREDENTIALS,
            scope=Scope.DESTINATION,
            hint="Check AWS_SECRET_ACCESS_KEY, or the source of the credentials. Perhaps a file was read with its "
            "final line break.",
        )
    for name, value in (("access key", credentials.access_key), ("session token", credentials.token)):
        if not _CREDENTIAL.fullmatch(value):
            raise StoreError(
                f"The {name} in use has an invalid character, for example a space or a line break.",
                code="InvalidCredentials",
                origin=Origin.CREDENTIALS,
                scope=Scope.DESTINATION,
                hint="Check AWS_ACCESS_KEY_ID and AWS_SESSION_TOKEN, or the source of the credentials.",
            )
    return credentials
