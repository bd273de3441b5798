"""The file that a newcomer starts from, whole and broken in every way."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.config.faults import ConfigError, ConfigFault
from gateway.config.guardrails import PersonalDatum
from gateway.config.loading import load

SHIPPED = Path(__file__).parents[4] / "configs" / "gateway.yaml"
TEXT = SHIPPED.read_text("utf-8")
VENDORS = ["openai", "anthropic", "gemini", "mistral"]


def test_without_any_key_it_answers_by_itself() -> None:
    loaded = load(SHIPPED, {})
    assert loaded.notices == tuple(f"provider {name} is switched off: its api_key is empty" for name in VENDORS)
    assert next(iter(loaded.configuration.models)) == "handbook"


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_vendors_key_in_the_environment_switches_it_on(vendor: str) -> None:
    loaded = load(SHIPPED, {f"{vendor.upper()}_API_KEY": "sk-1"})
    assert loaded.notices == tuple(
        f"provider {name} is switched off: its api_key is empty" for name in VENDORS if name != vendor
    )


def test_the_kinds_of_personal_data_are_those_of_the_check() -> None:
    from guardrails.checks.pii import PersonalData

    assert len(PersonalData(get_args(PersonalDatum)).version.split(",")) == len(get_args(PersonalDatum))


_pieces = st.one_of(
    st.sampled_from(
        ["{", "}", "[", "]", ":", "- ", "\n", "  ", "\t", "#", "&a ", "*a", "<<: ", "!!int ", "!!timestamp ", "${", "}",
         "${X}", "$${", "'", '"', "|\n", "null", "true", "-1", "1e400", ".inf", ".nan", "0x", "1:30", "~nobody/x",
         "\x00", "\ue100\ue001", '"\\ue105\\ue001"', "\u2028", "---\n", "? ", "kind", "[]", "{}", "\ufeff", "9" * 5000]
    ),
    st.text(max_size=4),
)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.tuples(st.integers(0, len(TEXT)), st.integers(0, 30), _pieces), min_size=1, max_size=3),
)
def test_however_it_is_broken_it_loads_or_says_where(tmp_path: Path, cuts: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for start, length, piece in cuts:
        text = text[:start] + piece + text[start + length :]
    file = tmp_path / "gateway.yaml"
    file.write_text(text, "utf-8", errors="replace")
    faults = _faults(file)
    lines = 1 + sum(text.count(end) for end in "\n\r\x85\u2028\u2029")
    assert all(fault.message and 1 <= fault.line <= lines and fault.column >= 1 for fault in faults)
    assert all("\n" not in str(fault) for fault in faults)


def _faults(file: Path) -> tuple[ConfigFault, ...]:
    """None where it loads. Whatever else is raised fails the test."""
    try:
        load(file, {"X": "1"})
    except ConfigError as error:
        return error.faults
    return ()
