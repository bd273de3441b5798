"""The issuers of tokens that the configuration trusts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.access.issuer_keys import KeySets
    from gateway.access.tokens import TokenVerifier
    from gateway.config.tokens import TokenIssuer

_LOOK_AGAIN = 1.0  # seconds


class TrustedIssuers:
    """Their keys: made when a configuration first trusts an issuer, kept across reloads."""

    def __init__(self) -> None:
        self._key_sets: KeySets | None = None

    def verifier(self, issuers: Sequence[TokenIssuer]) -> TokenVerifier | None:
        """For one revision; None where it trusts nobody, and then nothing is loaded either."""
        if not issuers:
            return None
        from gateway.access.issuer_keys import KeySets
        from gateway.access.tokens import TokenVerifier

        if self._key_sets is None:
            self._key_sets = KeySets()
        return TokenVerifier(issuers, self._key_sets)

    async def run(self) -> None:
        """Until cancelled."""
        while self._key_sets is None:
            await asyncio.sleep(_LOOK_AGAIN)
        await self._key_sets.run()

    @property
    def trusted(self) -> bool:
        """Whether there has been any."""
        return self._key_sets is not None

    def state(self) -> str:
        return "ok" if self._key_sets is None else self._key_sets.state()
