"""The AWS settings and credentials that botocore finds: in the AWS tools' files, in a profile, at a machine's role."""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable, Mapping
from typing import Any

from s3_uploader.core.files import refuse_pipe
from s3_uploader.core.text import shown_name
from s3_uploader.stores.s3.credentials import AwsSettings, Credentials, no_credentials, unusable_configuration
from s3_uploader.stores.s3.helpers import RenewedCredentials, find

_BYTE_ORDER_MARKS = ("\ufeff", "\u00ef\u00bb\u00bf")
"""As UTF-8 reads it, and as Latin-1 does."""


def read_settings(
    profile: str | None, environment: Mapping[str, str], *, needs_endpoint: bool, is_on: Callable[[object], bool]
) -> AwsSettings:
    """Read the settings that count for a bucket.

    :param needs_endpoint: the endpoint is not configured otherwise.
    :param is_on: whether a value switches a setting on.
    :raises StoreError: if they are invalid.
    """
    from botocore.exceptions import BotoCoreError, ConfigParseError
    from botocore.session import Session

    try:
        session = Session(profile=profile)
        endpoint_url = None
        if needs_endpoint and not is_on(session.get_config_variable("ignore_configured_endpoint_urls")):
            endpoint_url = _configured_endpoint(session)
        nested = session.get_scoped_config().get("s3")
        s3: dict[str, Any] = nested if isinstance(nested, dict) else {}
        return AwsSettings(
            session=session,
            endpoint_url=endpoint_url,
            # botocore reads AWS_DEFAULT_REGION only; the other SDKs and the AWS CLI also read AWS_REGION.
            region=environment.get("AWS_REGION") or session.get_config_variable("region"),
            addressing_style=s3.get("addressing_style", "auto"),
            ca_bundle=session.get_config_variable("ca_bundle"),
            dualstack=str(
                session.get_config_variable("use_dualstack_endpoint") or s3.get("use_dualstack_endpoint", "")
            ),
            fips=str(session.get_config_variable("use_fips_endpoint") or ""),
            accelerate=str(s3.get("use_accelerate_endpoint", "")),
            signs_payload=s3.get("payload_signing_enabled"),
        )
    except ConfigParseError as error:
        wrong = _wrong_with_file(error.kwargs.get("error"))
        raise unusable_configuration(f"{str(error).rstrip('.')}{wrong and f': {wrong}'}.") from None
    except BotoCoreError as error:
        raise unusable_configuration(str(error)) from None


def _wrong_with_file(error: object) -> str:
    """What is wrong with a file, without the line that is: it may hold the secret key."""
    if isinstance(error, UnicodeDecodeError):
        return "it is not text in UTF-8"
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno} begins the section [{error.section}] a second time"
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno} sets {error.option} a second time in the section [{error.section}]"
    if isinstance(error, configparser.MissingSectionHeaderError):
        if str(error.line).startswith(_BYTE_ORDER_MARKS):
            return "it begins with a byte order mark; save it as UTF-8 without one"
        return f"line {error.lineno} stands before the first section, such as [default]"
    if isinstance(error, configparser.ParsingError) and error.errors:
        return f"line {error.errors[0][0]} is neither a section, such as [default], nor name = value"
    return ""


def _configured_endpoint(session: Any) -> str | None:
    from botocore.configprovider import ConfiguredEndpointProvider

    url: str | None = ConfiguredEndpointProvider(
        full_config=session.full_config, scoped_config=session.get_scoped_config(), client_name="s3"
    ).provide()
    return url


def renewed_credentials(session: Any, *, usable: Callable[[Credentials], Credentials]) -> RenewedCredentials:
    """The credentials of a session.

    :param usable: checks that they can be sent in a header.
    :raises StoreError: if there are none.
    """
    found = find(session)
    if found is None:
        raise no_credentials(_unread(session))
    return RenewedCredentials(found, usable=usable)


def _unread(session: Any) -> str:
    """A file of the AWS tools that cannot be read, with the reason; botocore passes over it without a word."""
    for variable, default in (("credentials_file", "~/.aws/credentials"), ("config_file", "~/.aws/config")):
        name = session.get_config_variable(variable)
        path = os.path.expanduser(name)
        try:
            refuse_pipe(path)
        except OSError as error:
            # That the default file is missing is the rule.
            if name != default or not isinstance(error, FileNotFoundError):
                return f"{shown_name(path)} cannot be read: {error.strerror}"
    return ""
