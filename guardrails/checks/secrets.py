"""Keys and tokens of the common vendors, private keys, and connection strings with a password.

The patterns are detect-secrets' where it has them (https://github.com/Yelp/detect-secrets, Apache-2.0), those of
its plugins whose matches need no context; and the vendors' published formats for newer kinds. They are run by RE2,
in time linear in the text, except the few that use what RE2 leaves out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import Any

import re2
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.gitlab_token import GitLabTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.slack import SlackDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
from detect_secrets.plugins.stripe import StripeDetector
from detect_secrets.plugins.telegram_token import TelegramBotTokenDetector
from detect_secrets.plugins.twilio import TwilioKeyDetector

from guardrails.policy import PRIVATE_KEY
from guardrails.verdicts import Action, Finding

_PLUGINS: dict[str, type[RegexBasedDetector]] = {
    "aws_access_key": AWSKeyDetector,
    "azure_storage_key": AzureStorageKeyDetector,
    "basic_auth": BasicAuthDetector,
    "discord_token": DiscordBotTokenDetector,
    "github_token": GitHubTokenDetector,
    "gitlab_token": GitLabTokenDetector,
    "mailchimp_key": MailchimpDetector,
    "pypi_token": PypiTokenDetector,
    "sendgrid_key": SendGridDetector,
    "slack_token": SlackDetector,
    "square_secret": SquareOAuthDetector,
    "stripe_key": StripeDetector,
    "telegram_token": TelegramBotTokenDetector,
    "twilio_key": TwilioKeyDetector,
}
_OWN = {
    # OpenAI (sk-, sk-proj-, sk-svcacct-), Anthropic (sk-ant-), OpenRouter (sk-or-) and this gateway (sk-gw-).
    "api_key": r"\bsk-(?:[a-z]{2,8}-)*[A-Za-z0-9_-]{20,}",
    "google_api_key": r"\bAIza[0-9A-Za-z_-]{35}",
    "github_token_fine": r"\bgithub_pat_[A-Za-z0-9_]{60,}",
    "huggingface_token": r"\bhf_[A-Za-z0-9]{30,}",
    "npm_token": r"\bnpm_[A-Za-z0-9]{36}",
    "groq_key": r"\bgsk_[A-Za-z0-9]{40,}",
    "slack_app_token": r"\bxapp-\d-[A-Z0-9]+-\d+-[a-z0-9]+",
    # A header that begins with {" in base64url, a payload, a signature that may be empty: RFC 7519, 3.
    "jwt": r"\beyJ[A-Za-z0-9_=-]{8,}\.eyJ[A-Za-z0-9_=-]{8,}\.?[A-Za-z0-9_.+/=-]*",
    PRIVATE_KEY: r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----",
}
_SHORTEST = 16


class Secrets:
    name = "secrets"
    default_action: Action = "block"

    def __init__(self) -> None:
        self._patterns = [(kind, _compiled(pattern)) for kind, pattern in _patterns()]
        told = "\0".join(f"{kind} {pattern}" for kind, pattern in _patterns())
        self.version = hashlib.sha256(told.encode()).hexdigest()[:12]

    def worth(self, run: str) -> bool:
        return len(run) >= _SHORTEST

    def find(self, run: str) -> list[Finding]:
        # RE2 works on UTF-8, which has no lone surrogates; they are in no secret.
        text = run.encode("utf-8", "replace").decode() if not run.isascii() else run
        found = [
            Finding(kind, match.start(), match.end(), 1.0)
            for kind, matches in self._patterns
            for match in matches(text)
            if not _is_placeholder(match.group())
        ]
        return sorted(found, key=lambda finding: (finding.start, -finding.end))

    def mask(self, kind: str) -> str:
        return f"<SECRET:{kind}>"


def _patterns() -> Iterator[tuple[str, str]]:
    for kind, plugin in _PLUGINS.items():
        for pattern in plugin.denylist:
            if ".{0,20}" not in pattern.pattern:  # needs the words around it, which are in other runs
                yield kind, pattern.pattern
    yield from _OWN.items()


def _compiled(pattern: str) -> Callable[[str], Iterator[Any]]:
    try:
        return re2.compile(pattern, _quiet()).finditer  # type: ignore[no-any-return]  # re2 has no types
    except re2.error:
        return re.compile(pattern).finditer


def _quiet() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _is_placeholder(text: str) -> bool:
    """`https://user:password@host` in a manual is an example, and so is a key made of one letter."""
    lowered = text.lower()
    if "://" in lowered:
        return lowered.rsplit(":", 1)[-1].strip("@") in ("password", "pass", "secret", "pw", "xxx", "***", "…", "...")
    return len(set(lowered[-16:])) <= 2
