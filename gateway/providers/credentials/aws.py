"""AWS: Signature Version 4 by botocore, with credentials from wherever botocore finds them.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import asyncio
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import BotoCoreError
from botocore.session import Session

from gateway.errors import CredentialRefused, UpstreamFailed
from gateway.providers.dialect import Outgoing


class SigV4:
    """A Signer for one service in one region. `base_url` is where the requests go."""

    def __init__(self, credentials: Any, service: str, region: str, base_url: str) -> None:
        self._credentials = credentials
        self._service = service
        self._region = region
        self._base_url = base_url.rstrip("/")

    async def headers(self, outgoing: Outgoing) -> tuple[tuple[str, str], ...]:
        credentials = self._credentials
        try:
            if isinstance(credentials, RefreshableCredentials) and credentials.refresh_needed():
                frozen = await asyncio.to_thread(credentials.get_frozen_credentials)
            else:
                frozen = credentials.get_frozen_credentials()
        except BotoCoreError:
            raise UpstreamFailed("No credential for the provider: AWS gave none.") from None
        if not frozen.access_key:
            raise CredentialRefused("There are no AWS credentials.")
        request = AWSRequest(
            method="POST",
            url=self._base_url + outgoing.path.decode("ascii"),
            data=outgoing.body,
            headers={"content-type": "application/json"},
        )
        SigV4Auth(
            Credentials(frozen.access_key, frozen.secret_key, frozen.token), self._service, self._region
        ).add_auth(request)
        signed = ((name.lower(), str(value)) for name, value in request.headers.items())
        return tuple((name, value) for name, value in signed if name != "content-type")


def static_keys(access_key_id: str, secret_access_key: str, session_token: str | None) -> Credentials:
    return Credentials(access_key_id, secret_access_key, session_token)


def default_chain(profile: str | None) -> Any:
    """botocore's own search: environment, profiles, roles, the machine's. Raises ValueError where there is none."""
    try:
        found = Session(profile=profile).get_credentials()
    except BotoCoreError as error:
        raise ValueError(f"no AWS credentials: {error}") from None
    if found is None:
        raise ValueError("no AWS credentials: set access_key_id and secret_access_key, a profile, or the environment's")
    return found
