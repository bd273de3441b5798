"""What every section of the configuration is made of: no unknown key, no change after loading."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _http_url(value: str) -> str:
    """Raises ValueError, which never repeats the URL: its user part may be a secret."""
    parts = urlsplit(value)
    readable = value.isascii() and value.isprintable() and " " not in value
    if parts.scheme not in ("http", "https") or not parts.hostname or not _has_port(parts) or not readable:
        raise ValueError("should be a URL like https://api.example.com/v1")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("a URL has no user, query or fragment here; credentials go into api_key or headers")
    if parts.path.rstrip("/").endswith(("/chat/completions", "/embeddings")):
        raise ValueError("a base URL ends before the endpoint, where /chat/completions begins")
    return value


def _header_value(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("holds a line break, a blank at an end, or another character that no HTTP header carries")
    return value


def _encryption_key(value: SecretStr) -> SecretStr:
    """The key itself; `file:PATH` is read. Raises ValueError, which never repeats a key."""
    text = value.get_secret_value()
    if text.startswith("file:"):
        try:
            value = SecretStr(Path(text.removeprefix("file:")).read_text("ascii").strip())
        except (OSError, UnicodeError) as fault:
            raise ValueError(
                f"names a file that can't be read: {getattr(fault, 'strerror', None) or 'not ASCII'}"
            ) from None
    try:
        bytes_of_key(value)
    except (ValueError, binascii.Error):
        raise ValueError("should be 32 random bytes in base64, as `openssl rand -base64 32` prints them") from None
    return value


def bytes_of_key(value: SecretStr) -> bytes:
    """The 32 bytes. Raises ValueError; binascii.Error is one too."""
    key = base64.b64decode(value.get_secret_value().replace("-", "+").replace("_", "/"), validate=True)
    if len(key) != 32:
        raise ValueError("not 32 bytes")
    return key


def _records_url(value: str) -> str:
    """Raises ValueError, which never repeats the URL: it may hold a password."""
    parts = urlsplit(value)
    if parts.scheme == "sqlite" and value.startswith("sqlite:///") and len(value) > len("sqlite:///"):
        return value
    if parts.scheme in ("postgresql", "postgres") and len(parts.path) > 1 and _has_port(parts):
        return value
    raise ValueError("should be sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE")


def _state_url(value: str) -> str:
    """Raises ValueError, which never repeats the URL: it may hold a password."""
    parts = urlsplit(value)
    known = parts.scheme in ("redis", "rediss") and parts.hostname and _has_port(parts)
    # What redis-py can't read of the rest it passes over, or stumbles over at the first call.
    number = parts.path.removeprefix("/")
    options = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True) if not name.startswith("ssl_")]
    if value == "memory://" or (known and (not number or number.isdecimal()) and not options):
        return value
    raise ValueError("should be memory://, redis://HOST:PORT/NUMBER or rediss://HOST:PORT/NUMBER")


def _has_port(parts: SplitResult) -> bool:
    try:
        return parts.port is None or parts.port > 0
    except ValueError:
        return False


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Credential = Annotated[SecretStr, AfterValidator(_header_value)]
EncryptionKey = Annotated[SecretStr, AfterValidator(_encryption_key)]
HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")]
RecordsUrl = Annotated[str, AfterValidator(_records_url)]
StateUrl = Annotated[str, AfterValidator(_state_url)]
