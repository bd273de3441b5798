"""An imitation of Azure OpenAI: OpenAI's wire under deployments' paths, a version and another header.

https://learn.microsoft.com/en-us/azure/ai-services/openai/reference. It also is the token service of Entra, under
/TENANT/oauth2/v2.0/token. Start it with `Vendor(answers=AzureAnswer)`.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs

from upstream.vendor import Answer, Seen

TOKEN, SECRET = "entra-token-canary", "entra-secret-canary"
_DEPLOYED = re.compile(r"/openai/deployments/([^/]+)(/chat/completions|/embeddings)\?api-version=(2[\w-]+)")


class AzureAnswer(Answer):
    request_id = "apim-request-id: azure_upstream"

    def model_of(self, seen: Seen) -> str:
        found = _DEPLOYED.fullmatch(seen.path)
        return found[1] if found else super().model_of(seen)

    async def give(self) -> bool:
        if self._seen.path.endswith("/oauth2/v2.0/token"):
            form = {name: values[0] for name, values in parse_qs(self._seen.raw.decode()).items()}
            if form.get("client_secret") != SECRET or form.get("grant_type") != "client_credentials":
                return await self._error(401, "AADSTS7000215: Invalid client secret provided.")
            return await self._json({"token_type": "Bearer", "expires_in": 3599, "access_token": TOKEN})
        return await super().give()

    def _refusal(self) -> str | None:
        seen = self._seen
        credential = seen.headers.get("api-key"), seen.headers.get("authorization")
        if credential not in ((self._vendor.api_key, None), (None, f"Bearer {TOKEN}")):
            return "Access denied due to invalid subscription key."
        found = _DEPLOYED.fullmatch(seen.path)
        if found is None and not seen.path.startswith("/openai/v1/"):
            return f"Resource not found: {seen.path}"
        # What is left is OpenAI's own strictness.
        headers, path = seen.headers, seen.path
        seen.path = f"/v1{found[2]}" if found else path.removeprefix("/openai")
        seen.headers = {**headers, "authorization": f"Bearer {self._vendor.api_key}"}
        try:
            return super()._refusal()
        finally:
            seen.headers, seen.path = headers, path

    def document(self) -> dict[str, Any]:
        return self._embeddings() if "/embeddings" in self._seen.path else self._completion()

    def error(self, status: int, message: str) -> dict[str, Any]:
        told = super().error(status, message)
        if self._how.get("code") == "content_filter":
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}
            told["error"]["innererror"] = inner
        return told
