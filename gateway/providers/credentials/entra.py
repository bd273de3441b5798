"""Microsoft Entra ID: tokens for Azure by a client's secret, or as the machine's managed identity."""

from __future__ import annotations

import httpx

from gateway.errors import UpstreamFailed
from gateway.providers.credentials.bearer import BearerToken, post_form, read_token

_SCOPE = "https://cognitiveservices.azure.com/.default"
_RESOURCE = "https://cognitiveservices.azure.com/"
_IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"


def client_secret(tenant: str, client: str, secret: str, authority: str) -> BearerToken:
    """https://learn.microsoft.com/en-us/entra/identity-platform/v2-oauth2-client-creds-grant-flow"""
    form = {"grant_type": "client_credentials", "client_id": client, "client_secret": secret, "scope": _SCOPE}
    return BearerToken(lambda: post_form(f"{authority}/{tenant}/oauth2/v2.0/token", form))


def managed_identity(client: str | None, endpoint: str = _IMDS) -> BearerToken:
    """https://learn.microsoft.com/en-us/entra/identity/managed-identities-azure-resources/how-to-use-vm-token"""
    query = {"api-version": "2018-02-01", "resource": _RESOURCE} | ({"client_id": client} if client else {})

    async def fetch() -> tuple[str, float]:
        try:
            async with httpx.AsyncClient(timeout=10, trust_env=False) as asking:
                answer = await asking.get(endpoint, params=query, headers={"metadata": "true"})
        except httpx.HTTPError:
            raise UpstreamFailed("No credential for the provider: this machine has no identity service.") from None
        return read_token(answer.status_code, answer.content)

    return BearerToken(fetch)
