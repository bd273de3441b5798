"""A provider's configuration to the provider: one branch a kind, which alone loads what that kind needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import SecretStr

from gateway.config import providers as kinds
from gateway.config.providers import Extractive, HttpProvider, Timeouts
from gateway.config.providers import Provider as Settings
from gateway.providers.openai_compatible import OpenAICompatible
from gateway.providers.upstream import Upstream
from gateway.routing.candidates import Lane, Line
from gateway.routing.health import Patience

if TYPE_CHECKING:
    from collections.abc import Callable

    from gateway.knowledge_service import KnowledgeService
    from gateway.providers.dialect import Dialect, Signer
    from gateway.providers.media import MediaHosts
    from gateway.providers.protocol import Provider
    from gateway.providers.reply import Transport
    from gateway.providers.vllm import ModelServer


def line(
    name: str,
    settings: Settings,
    knowledge: KnowledgeService | None,
    model_server: Callable[[str, kinds.Serve], ModelServer] | None = None,
) -> Line:
    """The provider that an entry of `providers` describes, with the patience that it asks for.

    `model_server` makes the gateway's own vLLM servers, where another process runs them.
    Raises ValueError for what can't be had on this machine: a credential, a package.
    """
    if isinstance(settings, HttpProvider):
        single = [settings.model_copy(update={"api_key": _secret(key), "api_keys": None}) for key in settings.keys]
        try:
            lanes = tuple(Lane(_http_provider(name, under_one_key, model_server)) for under_one_key in single)
        except ImportError as missing:
            extra = settings.kind.replace("_", "-")
            raise ValueError(f"providers.{name}: needs {missing.name}: pip install 'rag-gateway[{extra}]'") from None
        except ValueError as fault:
            raise ValueError(f"providers.{name}: {fault}") from None
        retries, timeouts = settings.retries, settings.timeouts
        return Line(lanes, timeouts.total, retries.attempts, retries.backoff, retries.max_backoff, settings.residency)
    if isinstance(settings, Extractive):
        from gateway.providers.extractive import Extractive as ExtractiveProvider

        return Line((Lane(ExtractiveProvider(settings.sentences)),), 10.0, 0, 0.0, 0.0, "on_premises")
    assert knowledge is not None, "the configuration's references were checked"
    timeouts = Timeouts.model_validate({"total": "60s"})
    upstream = Upstream(f"unix:{knowledge.embedding_socket}", {}, connect_timeout=2.0, max_connections=64)
    embedder = OpenAICompatible(upstream, timeouts)
    embedder.endpoints = frozenset({"embeddings"})  # of OpenAI's API it has this, and is not offered for more
    return Line((Lane(embedder),), timeouts.total, 1, 0.1, 1.0, "on_premises")


def patience(settings: Settings) -> Patience:
    """When a target of this provider is held to be faulty."""
    if not isinstance(settings, HttpProvider):
        return Patience()
    circuit = settings.circuit
    return Patience(circuit.failures, circuit.within, circuit.pause, circuit.longest)


def _secret(key: str | None) -> SecretStr | None:
    return None if key is None else SecretStr(key)


def _http_provider(
    name: str, settings: HttpProvider, model_server: Callable[[str, kinds.Serve], ModelServer] | None
) -> Provider:
    """A kind with a wire format of its own has its branch here, with its imports."""
    if isinstance(settings, kinds.Vllm):
        return _vllm(name, settings, model_server)
    if isinstance(settings, (kinds.OpenAI, kinds.OpenAICompatible)):
        upstream = _upstream(settings, settings.base_url, _key(settings, "authorization", "Bearer "))
        return OpenAICompatible(upstream, settings.timeouts, _secrets(settings), media=_media(settings))
    if isinstance(settings, kinds.AzureOpenAI):
        return _azure(settings)
    if isinstance(settings, kinds.Anthropic):
        from gateway.providers.anthropic import VERSION, Anthropic

        headers = _key(settings, "x-api-key") | {"anthropic-version": VERSION}
        return _translated(name, Anthropic(settings.default_max_tokens), settings, settings.base_url, headers)
    if isinstance(settings, kinds.Gemini):
        from gateway.providers.gemini import Gemini

        return _translated(name, Gemini(), settings, settings.base_url, _key(settings, "x-goog-api-key"))
    if isinstance(settings, kinds.Vertex):
        from gateway.providers.credentials.google import default_identity, service_account_file, service_account_json
        from gateway.providers.vertex import Vertex

        file, json = settings.credentials, settings.credentials_json
        if json is not None:
            signer = service_account_json(json.get_secret_value())
        else:
            signer = service_account_file(file) if file is not None else default_identity()
        dialect = Vertex(settings.project, settings.location)
        return _translated(name, dialect, settings, settings.address, {}, signer)
    if isinstance(settings, kinds.Bedrock):
        return _bedrock(name, settings)
    if isinstance(settings, kinds.Mistral):
        from gateway.providers.mistral import Mistral

        return _translated(name, Mistral(), settings, settings.base_url, _key(settings, "authorization", "Bearer "))
    if isinstance(settings, kinds.Cohere):
        from gateway.providers.cohere import Cohere

        return _translated(name, Cohere(), settings, settings.base_url, _key(settings, "authorization", "Bearer "))
    if isinstance(settings, kinds.AnyLlm):
        from gateway.providers.any_llm import AnyLlm

        key = settings.api_key.get_secret_value() if settings.api_key is not None else None
        return AnyLlm(settings.vendor, key, settings.base_url, settings.timeouts, _secrets(settings))
    raise AssertionError(f"{name}: no provider is known for this kind")


def _vllm(name: str, settings: kinds.Vllm, model_server: Callable[[str, kinds.Serve], ModelServer] | None) -> Provider:
    from gateway.providers.vllm import Vllm

    serve, media = settings.serve, _media(settings)
    if serve is None:
        upstream = _upstream(settings, settings.base_url, _key(settings, "authorization", "Bearer "))
        root = settings.base_url.rstrip("/").removesuffix("/v1")
        return Vllm(upstream, settings.timeouts, _secrets(settings), root, settings.load_every, media=media)
    from gateway.providers.vllm_server import VllmServer

    server: ModelServer = (
        VllmServer(name, serve.executable, serve.model, serve.args, serve.ready_within)
        if model_server is None
        else model_server(name, serve)
    )
    upstream = _upstream(settings, server.url + "/v1", {"authorization": f"Bearer {server.key}"})
    secrets = (*_secrets(settings), server.key)
    return Vllm(upstream, settings.timeouts, secrets, server.url, settings.load_every, server, media)


def _azure(settings: kinds.AzureOpenAI) -> Provider:
    from gateway.providers.azure_openai import deployment_path, v1_path

    signer: Signer | None = None
    if settings.entra is not None:
        from gateway.providers.credentials.entra import client_secret, managed_identity

        entra = settings.entra
        if entra.client_secret is not None and entra.tenant_id is not None and entra.client_id is not None:
            secret = entra.client_secret.get_secret_value()
            signer = client_secret(entra.tenant_id, entra.client_id, secret, entra.authority)
        else:
            signer = managed_identity(entra.client_id)
    version = settings.api_version
    path = v1_path if version is None else deployment_path(version, settings.deployments)
    upstream = _upstream(settings, settings.endpoint, _key(settings, "api-key"))
    azure = OpenAICompatible(upstream, settings.timeouts, _secrets(settings), path, signer)
    azure.endpoints = azure.endpoints - {"moderations"}
    return azure


def _bedrock(name: str, settings: kinds.Bedrock) -> Provider:
    from gateway.providers.bedrock import Bedrock

    if settings.api_key is not None:
        headers = _key(settings, "authorization", "Bearer ")
        return _translated(name, Bedrock(), settings, settings.address, headers)
    from gateway.providers.credentials.aws import SigV4, default_chain, static_keys

    secret, token = settings.secret_access_key, settings.session_token
    if settings.access_key_id is not None and secret is not None:
        found = static_keys(
            settings.access_key_id, secret.get_secret_value(), token.get_secret_value() if token else None
        )
    else:
        found = default_chain(settings.profile)
    signer = SigV4(found, "bedrock", settings.region, settings.address)
    return _translated(name, Bedrock(), settings, settings.address, {}, signer)


def _translated(
    name: str,
    dialect: Dialect,
    settings: kinds.VendorProvider,
    base_url: str,
    headers: dict[str, str],
    signer: Signer | None = None,
) -> Provider:
    """A vendor with a wire format of its own; `headers` hold its credential where that is a fixed header."""
    from gateway.providers.translated import Translated

    upstream = _upstream(settings, base_url, headers)
    drop = settings.unsupported == "drop"
    return Translated(name, dialect, upstream, settings.timeouts, _secrets(settings), signer, drop=drop)


def _key(settings: HttpProvider, header: str, before: str = "") -> dict[str, str]:
    return {} if settings.api_key is None else {header: before + settings.api_key.get_secret_value()}


def _upstream(settings: HttpProvider, base_url: str, headers: dict[str, str]) -> Transport:
    """The connections to a vendor; `headers` are added to the configured ones."""
    configured = {name: value.get_secret_value() for name, value in settings.headers.items()}
    connect, most = settings.timeouts.connect, settings.max_connections
    if settings.http2:
        from gateway.providers.http2 import Http2

        return Http2(base_url, configured | headers, connect_timeout=connect, max_connections=most)
    return Upstream(base_url, configured | headers, connect_timeout=connect, max_connections=most)


def _media(settings: HttpProvider) -> MediaHosts | None:
    """Where the server may fetch from; None where that is its own concern."""
    if not isinstance(settings, kinds.MediaFetcher):
        return None
    ours = settings.residency == "on_premises" or isinstance(settings, kinds.Vllm)
    if settings.media_hosts is None and not ours:
        return None
    from gateway.providers.media import MediaHosts

    return MediaHosts(settings.media_hosts or ())


def _secrets(settings: HttpProvider) -> tuple[str, ...]:
    """What must be cut out of a vendor's words before a caller sees them."""
    secrets = [value.get_secret_value() for value in settings.headers.values()]
    if settings.api_key is not None:
        secrets.append(settings.api_key.get_secret_value())
    return tuple(secrets)
