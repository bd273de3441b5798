"""Which keys and tokens are found, and what is left alone. The samples are put together here: none is a real key."""

from __future__ import annotations

import pytest

from guardrails.assembly import build_check
from guardrails.policy import Policy, Rule

_POLICY = Policy([Rule(build_check("secrets", {}), "mask")])
_B = "a1B2c3D4e5F6g7H8i9J0"  # twenty characters, as a key's body


@pytest.mark.parametrize(
    ("kind", "secret"),
    [
        ("api_key", "sk-" + _B * 2),
        ("api_key", "sk-proj-" + _B * 4 + "_-" + _B),
        ("api_key", "sk-ant-api03-" + _B * 4 + "-" + _B[:10] + "AA"),
        ("aws_access_key", "AKIA" + "IOSFODNN7ABCDEFG"),
        ("square_token", "EAAA" + (_B * 4)[:60]),
        ("square_token", "sq0atp-" + (_B * 2)[:22]),
        ("aws_secret_key", "aws_secret_access_key=" + (_B * 2)[:38] + "/+"),
        ("azure_storage_key", "AccountKey=" + (_B * 5)[:86] + "=="),
        ("discord_token", "M" + _B + "abcd." + "X1y2Z3." + (_B * 2)[:27]),
        ("github_token", "ghp_" + (_B * 2)[:36]),
        ("github_token_fine", "github_pat_" + _B + "ab_" + _B * 2),
        ("gitlab_token", "glpat-" + _B),
        ("google_api_key", "AIza" + (_B * 2)[:35]),
        ("google_oauth_token", "ya29." + _B * 2),
        ("groq_key", "gsk_" + (_B * 3)[:52]),
        ("huggingface_token", "hf_" + (_B * 2)[:34]),
        ("jwt", "eyJhbGciOiJIUzI1NiJ9." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0." + _B),
        ("mailchimp_key", "0123456789abcdef" * 2 + "-us12"),
        ("npm_token", "npm_" + (_B * 2)[:36]),
        ("pypi_token", "pypi-AgEIcHlwaS5vcmc" + _B * 4),
        ("sendgrid_key", "SG." + (_B * 2)[:22] + "." + (_B * 3)[:43]),
        ("slack_token", "xoxb-" + "123456789012-123456789012-" + _B),
        ("slack_token", "xoxe.xoxp-" + "1-" + _B),
        ("slack_webhook", "https://hooks.slack.com/services/" + "T0A1B2C3D/B0A1B2C3D/" + _B),
        ("stripe_key", "sk_" + "live_" + "51" + _B * 4),
        ("stripe_key", "rk_" + "test_" + _B),
        ("telegram_token", "1234567890:" + (_B * 2)[:35]),
        ("twilio_key", "AC" + "0123456789abcdef" * 2),
        ("basic_auth", "://jane:hunter22@"),
        ("connection_string", "postgres://jane:" + "p4$$w0rd!@"),
        ("connection_string", "redis://:" + "hunter22@"),
        ("connection_string", "mongodb+srv://jane:" + "p@ss:w0rd@"),
    ],
)
@pytest.mark.parametrize("around", ["{}", "key: {} ok", '{{"k":"{}"}}', "line\\n{}\\n", "`{}`", "({}),"])
def test_the_vendors_keys_are_found_to_their_last_character(kind: str, secret: str, around: str) -> None:
    if kind == "basic_auth":
        around = around.replace("{}", "https{}host.example.com")
    if kind == "connection_string":
        around = around.replace("{}", "{}host.example.com/x")
    text = around.format(secret)
    screened = _POLICY.screen(text)
    assert screened.text == around.format(f"<SECRET:{kind}>")
    assert kind in {finding.kind for finding in screened.verdicts[0].findings}


@pytest.mark.parametrize(
    "text", ["__sk-" + _B * 2 + "__", "| sk-" + _B * 2 + "-" * 16, "**sk-" + _B * 2 + "**", "sk-" + _B * 2 + "X" * 16]
)
def test_decoration_does_not_hide_a_key(text: str) -> None:
    assert _B not in _POLICY.screen(text).text


@pytest.mark.parametrize("surrogate", ["\ud800", "é", "🙂", "\u0000"])
def test_positions_hold_beside_any_character(surrogate: str) -> None:
    secret = "ghp_" + (_B * 2)[:36]
    (verdict,) = _POLICY.screen(f"{surrogate}{surrogate}:{secret}:{surrogate}").verdicts
    assert [(f.kind, f.start, f.end) for f in verdict.findings] == [("github_token", 3, 43)]


@pytest.mark.parametrize(
    "text",
    [
        "The key begins with sk- and is shown once: sk-gw-…",
        "Authorization: Bearer $OPENAI_API_KEY",
        "risk-assessment-and-management-plan-2026",
        "use the class sk-folding-cube-wrapper-container here",
        "sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "postgres://user:password@localhost/app",
        "postgres://user:<password>@localhost/app",
        "postgresql://app:${DB_PASSWORD}@localhost/app",
        "http://127.0.0.1:8080/v1/chat/completions",
        "https://example.com:8443/a@b",
        "550e8400-e29b-41d4-a716-446655440000",
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "commit fe0dc50f2a9d1c3b4e5f60718293a4b5c6d7e8f9",
    ],
)
def test_examples_and_technical_text_are_left_alone(text: str) -> None:
    assert _POLICY.screen(text).text == text
