"""The public keys of those who issue tokens: asked for over HTTPS, refreshed beside the calls, withdrawn with them.

Where they come from is the operator's configuration, or the issuer's own discovery document; never a token.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from weakref import WeakValueDictionary

import httpx
from jwt import PyJWK, PyJWTError

from gateway.config.tokens import TokenIssuer, safe_address

log = logging.getLogger(__name__)

Fetch = Callable[[str], Awaitable[bytes]]

_PATIENCE = 5.0  # seconds for discovery and keys together
_MOST_BYTES = 512_000  # Entra ID's are 20 kB
_MOST_KEYS = 100
_PAUSE = 5.0  # seconds between two asks that unknown keys bring about
_FIRST_RETRY, _LONGEST_RETRY = 1.0, 60.0
_FITS: Mapping[str, Mapping[str | None, tuple[str, ...]]] = {
    "RSA": {None: ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "EC": {"P-256": ("ES256",), "P-384": ("ES384",), "P-521": ("ES512",)},
    "OKP": {"Ed25519": ("EdDSA",), "Ed448": ("EdDSA",)},
}
_SECRET_PARTS = ("d", "p", "q", "k")

KeyName = tuple[str | None, str]
"""A key's `kid`, and an algorithm that it is for."""


class KeysUnavailable(Exception):
    """The issuer can't be asked for its keys, and what is known does not say whether the token is good."""


class UnknownKey(Exception):
    """The issuer has been asked, and has no such key."""


class IssuerKeys:
    """The keys of one issuer. `generation` rises whenever they change; `usable_until` is on `clock`'s time.

    Whoever remembers what a key has proved keeps the generation with it, and believes it no longer than both say.
    """

    def __init__(self, settings: TokenIssuer, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._fetch = fetch
        self._clock = clock
        self._keys: dict[KeyName, PyJWK] = {}
        self._material: dict[KeyName, str] = {}
        self._asking: asyncio.Task[None] | None = None
        self._asked = self._due = float("-inf")
        self._failures = 0
        self.generation = 0
        self.usable_until = float("-inf")

    @property
    def healthy(self) -> bool:
        """Whether the issuer answered when it was asked last."""
        return self._failures == 0

    @property
    def usable(self) -> bool:
        """Whether what is known of the keys still counts."""
        return self._clock() < self.usable_until

    @property
    def next_ask(self) -> float:
        """When an unknown key may bring about another ask."""
        return self._asked + _PAUSE

    async def find(self, kid: str | None, algorithm: str) -> PyJWK:
        """The key of that id; without one, the only key there is for `algorithm`. Raises UnknownKey, KeysUnavailable.

        A key that is not known is asked for once, by all who wait for it together, and not again before `next_ask`.
        """
        key = self._known(kid, algorithm)
        if key is None and self._clock() >= self.next_ask:
            self._ask()
        if key is None and self._asking is not None:
            await asyncio.shield(self._asking)
            key = self._known(kid, algorithm)
        if key is not None:
            return key
        if not (self.healthy and self.usable):
            raise KeysUnavailable
        raise UnknownKey

    async def renewed(self) -> bool:
        """Whether the issuer has other keys by now; it is asked, unless that is not to be before `next_ask`."""
        before = self.generation
        if self._clock() >= self.next_ask:
            await self.refresh()
        return self.generation != before

    def refresh_if_due(self) -> None:
        """Begin to ask for the keys where it is time to. Must be called in a running loop."""
        if self._clock() >= self._due:
            self._ask()

    async def refresh(self) -> None:
        """Ask for the keys now, or wait for those who do."""
        self._ask()
        assert self._asking is not None
        await asyncio.shield(self._asking)

    async def stop(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._asking

    def _known(self, kid: str | None, algorithm: str) -> PyJWK | None:
        if not self.usable:
            return None
        if kid is not None:
            return self._keys.get((kid, algorithm))
        fitting = [key for (_, name), key in self._keys.items() if name == algorithm]
        return fitting[0] if len(fitting) == 1 else None

    def _ask(self) -> None:
        if self._asking is None:
            self._asked = self._clock()
            self._asking = asyncio.get_running_loop().create_task(self._asked_and_kept())
            self._asking.add_done_callback(self._answered)

    def _answered(self, _: asyncio.Task[None]) -> None:
        self._asking = None

    async def _asked_and_kept(self) -> None:
        """Never raises: whatever goes wrong, known keys hold for as long as the grace says."""
        settings = self._settings
        try:
            async with asyncio.timeout(_PATIENCE):
                keys, material = _usable(_object(await self._fetch(await self._address())), settings.algorithms)
        except TimeoutError:
            self._failed("it took too long")
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            self._failed("it can't be reached")
        except ValueError as error:
            self._failed(str(error))
        else:
            if material != self._material:
                self.generation += 1
                self._keys, self._material = keys, material
                log.info("the token issuer %s has %d keys", settings.name, len({kid for kid, _ in keys}))
            if self._failures:
                log.info("the token issuer %s answers again", settings.name)
            self._failures = 0
            self.usable_until = self._clock() + settings.refresh + settings.grace
            self._due = self._clock() + settings.refresh

    def _failed(self, why: str) -> None:
        if self._failures == 0:
            log.warning("the token issuer %s could not be asked for its keys: %s", self._settings.name, why)
        pause = min(_FIRST_RETRY * 2 ** min(self._failures, 10), _LONGEST_RETRY, self._settings.refresh)
        self._failures += 1
        self._due = self._clock() + pause

    async def _address(self) -> str:
        """Where the keys are. Raises ValueError, and what asking raises.

        https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfigurationValidation
        """
        settings = self._settings
        if settings.jwks_url is not None:
            return settings.jwks_url
        document = _object(await self._fetch(settings.issuer.rstrip("/") + "/.well-known/openid-configuration"))
        if document.get("issuer") != settings.issuer:
            raise ValueError("its discovery document names another issuer")
        address = document.get("jwks_uri")
        if not isinstance(address, str) or not safe_address(address, insecure_http=settings.insecure_http):
            raise ValueError("its discovery document has no https jwks_uri")
        return address


class KeySets:
    """The keys of all configured issuers. They outlive a reload, so that an issuer that is away then is no outage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._sets: WeakValueDictionary[str, IssuerKeys] = WeakValueDictionary()
        self._client: httpx.AsyncClient | None = None

    def of(self, settings: TokenIssuer) -> IssuerKeys:
        """The same object for the same settings, for as long as somebody holds it."""
        source = settings.model_dump_json(
            include={"name", "issuer", "jwks_url", "algorithms", "refresh", "grace", "insecure_http"}
        )
        keys = self._sets.get(source)
        if keys is None:
            keys = self._sets[source] = IssuerKeys(settings, self._get, self._clock)
        return keys

    async def run(self) -> None:
        """Keep all keys fresh, until cancelled."""
        try:
            while True:
                for keys in self._held():
                    keys.refresh_if_due()
                await asyncio.sleep(_FIRST_RETRY)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        for keys in self._held():
            await keys.stop()
        if self._client is not None:
            await self._client.aclose()

    def state(self) -> str:
        return "ok" if all(keys.healthy for keys in self._held()) else "unavailable"

    def _held(self) -> list[IssuerKeys]:
        """In one step, since a reload adds to them from its thread."""
        return [keys for reference in self._sets.valuerefs() if (keys := reference()) is not None]

    async def _get(self, url: str) -> bytes:
        """Raises ValueError where the answer is not the plain and bounded one that it should be."""
        if self._client is None:
            self._client = httpx.AsyncClient(follow_redirects=False, timeout=_PATIENCE)
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        async with self._client.stream("GET", url, headers=headers) as answer:
            if answer.status_code != 200:
                raise ValueError(f"it answered with HTTP {answer.status_code}")
            received = bytearray()
            async for piece in answer.aiter_raw():  # raw: what is compressed after all may grow without bound
                received += piece
                if len(received) > _MOST_BYTES:
                    raise ValueError("its answer is too long")
        return bytes(received)


def _object(data: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError("its answer is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("its answer is not a JSON object")
    return value


def _usable(document: Mapping[str, Any], algorithms: list[Any]) -> tuple[dict[KeyName, PyJWK], dict[KeyName, str]]:
    """The keys that verify signatures of `algorithms`, each as often as it fits one. Raises ValueError.

    What can't be used is left out: RFC 7517, section 5. A key whose secret part is published proves nothing.
    """
    listed = document.get("keys")
    if not isinstance(listed, list) or len(listed) > _MOST_KEYS:
        raise ValueError("its answer is not a JSON Web Key Set")
    keys: dict[KeyName, PyJWK] = {}
    material: dict[KeyName, str] = {}
    for order, entry in enumerate(listed):
        if not isinstance(entry, dict) or not _verifies(entry):
            continue
        kid = entry.get("kid")
        name = kid if isinstance(kid, str) else f"#{order} of those without a name" if kid is None else None
        if name is None:
            continue
        curves = _FITS.get(str(entry.get("kty")), {})
        fitting = curves.get(entry.get("crv") if entry.get("kty") != "RSA" else None, ())
        for algorithm in fitting:
            if algorithm not in algorithms or entry.get("alg") not in (None, algorithm):
                continue
            with contextlib.suppress(PyJWTError, ValueError, TypeError, KeyError):
                keys[name, algorithm] = PyJWK(entry, algorithm)
                material[name, algorithm] = json.dumps([entry.get(part) for part in ("kty", "crv", "n", "e", "x", "y")])
    return keys, material


def _verifies(entry: Mapping[str, Any]) -> bool:
    if any(part in entry for part in _SECRET_PARTS):
        return False
    operations = entry.get("key_ops")
    return entry.get("use") in (None, "sig") and (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    )
