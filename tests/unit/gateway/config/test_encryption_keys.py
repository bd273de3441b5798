"""Keys under which the record store encrypts, and what can't be had without one."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from gateway.config.faults import ConfigError
from gateway.config.loading import Loaded, load
from gateway.config.section import bytes_of_key

MOCK = "providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}\n"
KEY = base64.b64encode(b"\xfb\xef" * 16).decode()  # has both characters that URLs write otherwise
MODEL = "models: {{a: {{targets: [mock/x], guardrails: {{input: [pii], pseudonyms: {}}}}}}}\n"
NEEDS = (
    "needs `records.encryption_keys`: a conversation's values are kept encrypted. `openssl rand -base64 32` makes a key"
)


def loaded(folder: Path, text: str) -> Loaded:
    file = folder / "gateway.yaml"
    file.write_text(text, "utf-8")
    return load(file, {"KEY": KEY, "URL_KEY": KEY.replace("+", "-").replace("/", "_"), "SHORT": KEY[:-4]})


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("records: {pseudonyms: 24h}\n", f"2:11: records.pseudonyms: {NEEDS}", id="kept without a key"),
        pytest.param(
            "records: {blocked: on}\n",
            "2:11: records.blocked: `on` needs `records.encryption_keys`: what a guardrail blocks may be a secret, and is "
            "kept encrypted or not at all. `openssl rand -base64 32` makes a key",
            id="what was blocked, without a key",
        ),
        pytest.param(
            MODEL.format("conversation"),
            f"2:60: models.a.guardrails.pseudonyms: `conversation` {NEEDS}",
            id="asked for without a key",
        ),
        pytest.param(
            'records: {encryption_keys: ["${KEY}"], pseudonyms: off}\n' + MODEL.format("conversation"),
            "3:60: models.a.guardrails.pseudonyms: `conversation` can't be had where `records.pseudonyms` is off",
            id="asked for where it is off",
        ),
        pytest.param(
            'records: {encryption_keys: ["${KEY}", "${SHORT}"]}\n',
            "2:39: records.encryption_keys[1]: should be 32 random bytes in base64, as `openssl rand -base64 32` prints "
            "them",
            id="a key that is too short",
        ),
        pytest.param(
            "records: {encryption_keys: [not base64!]}\n",
            "2:29: records.encryption_keys[0]: should be 32 random bytes in base64, as `openssl rand -base64 32` prints "
            "them",
            id="a key that is none",
        ),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, MOCK + text)
    assert str(caught.value) == f"gateway.yaml:{fault}"


def test_keys_are_taken_in_either_alphabet(tmp_path: Path) -> None:
    records = loaded(tmp_path, MOCK + 'records: {encryption_keys: ["${KEY}", "${URL_KEY}"]}\n').configuration.records
    assert [bytes_of_key(key) for key in records.encryption_keys] == [b"\xfb\xef" * 16] * 2
    assert records.pseudonyms == 86_400.0
    assert KEY not in repr(records)


@pytest.mark.parametrize("pseudonyms", ["call", None])
def test_a_model_that_keeps_nothing_needs_no_key(tmp_path: Path, pseudonyms: str | None) -> None:
    text = MODEL.format(pseudonyms) if pseudonyms else MODEL.replace(", pseudonyms: {}", "").format()
    loaded(tmp_path, MOCK + text)
