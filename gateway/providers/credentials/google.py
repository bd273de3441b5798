"""Google Cloud: tokens of a service account, or of whatever identity the machine has, by google-auth."""

from __future__ import annotations

import asyncio
import datetime
import json
from pathlib import Path

import google.auth
import google.auth.transport.requests
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError, RefreshError
from google.oauth2 import service_account

from gateway.errors import CredentialRefused, UpstreamFailed
from gateway.providers.credentials.bearer import BearerToken

_SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)


def service_account_file(file: Path) -> BearerToken:
    """Raises ValueError for a file that is not a service account's key."""
    try:
        credentials = service_account.Credentials.from_service_account_file(str(file), scopes=_SCOPES)
    except (OSError, ValueError, GoogleAuthError) as error:
        raise ValueError(f"{file.name} is not a service account's key: {type(error).__name__}") from None
    return _token(credentials)


def service_account_json(content: str) -> BearerToken:
    """The same from a key file's content. Raises ValueError, which says nothing of the content."""
    try:
        credentials = service_account.Credentials.from_service_account_info(json.loads(content), scopes=_SCOPES)
    except (ValueError, TypeError, AttributeError, GoogleAuthError) as error:
        raise ValueError(f"`credentials_json` is not a service account's key: {type(error).__name__}") from None
    return _token(credentials)


def default_identity() -> BearerToken:
    """Application default credentials. Raises ValueError where the machine has none."""
    try:
        credentials, _ = google.auth.default(scopes=_SCOPES)
    except GoogleAuthError as error:
        raise ValueError(f"no Google credentials on this machine: {type(error).__name__}") from None
    return _token(credentials)


def _token(credentials: Credentials) -> BearerToken:
    def refreshed() -> tuple[str, float]:
        try:
            credentials.refresh(google.auth.transport.requests.Request())
        except RefreshError:
            raise CredentialRefused("Google refused the gateway's credentials.") from None
        except GoogleAuthError:
            raise UpstreamFailed("No credential for the provider: Google's token service is away.") from None
        assert credentials.expiry is not None, "a refreshed token expires"
        left = credentials.expiry.replace(tzinfo=datetime.UTC) - datetime.datetime.now(datetime.UTC)
        return str(credentials.token), left.total_seconds()

    return BearerToken(lambda: asyncio.to_thread(refreshed))
