"""Keys and tokens of the common vendors, private keys, and connection strings with a password.

The patterns are detect-secrets' where it has them (https://github.com/Yelp/detect-secrets, Apache-2.0), those of
its plugins whose matches need no context; and the vendors' published formats where these are newer or longer. All
are run by RE2, in time linear in the text.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import re2
from detect_secrets.plugins.aws import AWSKeyDetector
from detect_secrets.plugins.azure_storage_key import AzureStorageKeyDetector
from detect_secrets.plugins.base import RegexBasedDetector
from detect_secrets.plugins.basic_auth import BasicAuthDetector
from detect_secrets.plugins.discord import DiscordBotTokenDetector
from detect_secrets.plugins.github_token import GitHubTokenDetector
from detect_secrets.plugins.mailchimp import MailchimpDetector
from detect_secrets.plugins.pypi_token import PypiTokenDetector
from detect_secrets.plugins.sendgrid import SendGridDetector
from detect_secrets.plugins.square_oauth import SquareOAuthDetector
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
    "mailchimp_key": MailchimpDetector,
    "pypi_token": PypiTokenDetector,
    "sendgrid_key": SendGridDetector,
    "square_secret": SquareOAuthDetector,
    "telegram_token": TelegramBotTokenDetector,
    "twilio_key": TwilioKeyDetector,
}
# Where a token may begin: behind no letter or digit, or behind an escape of JSON, as in the arguments of a tool call.
_HERE = r"(?:\b|_|\\[bfnrt]|\\u[0-9a-f]{4})"
_OWN = {
    # OpenAI (sk-, sk-proj-, sk-svcacct-), Anthropic (sk-ant-), OpenRouter (sk-or-) and this gateway (sk-gw-).
    "api_key": r"sk-(?:[a-z]{2,8}-)*[A-Za-z0-9_-]{20,}",
    "google_api_key": r"AIza[0-9A-Za-z_-]{35}",
    "google_oauth_token": r"ya29\.[0-9A-Za-z_-]{20,}",
    "github_token_fine": r"github_pat_[A-Za-z0-9_]{60,}",
    "gitlab_token": r"(?:gl(?:pat|dt|ft|soat|rt|imt|ptt|agent|cbt)-|gloas-|GR1348941)[A-Za-z0-9_.-]{20,}",
    "huggingface_token": r"hf_[A-Za-z0-9]{30,}",
    "npm_token": r"npm_[A-Za-z0-9]{36}",
    "groq_key": r"gsk_[A-Za-z0-9]{40,}",
    "xai_key": r"xai-[A-Za-z0-9]{40,}",
    "perplexity_key": r"pplx-[A-Za-z0-9]{40,}",
    "replicate_token": r"r8_[A-Za-z0-9]{30,}",
    "digitalocean_token": r"do[opr]_v1_[a-f0-9]{64}",
    "shopify_token": r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
    # https://docs.stripe.com/keys: today's keys have about a hundred characters.
    "stripe_key": r"(?:[rs]k_(?:live|test)_[0-9A-Za-z]{16,}|whsec_[0-9A-Za-z+/=]{24,})",
    # https://docs.slack.dev/authentication/tokens
    "slack_token": r"xox[a-z](?:\.xox[a-z])?-[0-9A-Za-z-]{10,}",
    "slack_app_token": r"xapp-\d-[A-Z0-9]+-\d+-[A-Za-z0-9]+",
    "slack_webhook": r"(?i:https://hooks\.slack\.com/(?:services|workflows|triggers)/[a-z0-9_]+/[a-z0-9_/]{8,})",
    # https://developer.squareup.com/docs/build-basics/access-tokens
    "square_token": r"(?:EAAA[\w-]{40,60}|sq0atp-[\w-]{22,60})",
    "aws_secret_key": r"(?i:(?:aws|secret)[a-z_]{0,30}key[\\\"']{0,4}[:=][\\\"']{0,4})[0-9A-Za-z/+]{40}",
    # Passwords may hold what detect-secrets' pattern for basic authentication leaves out, and need no user.
    "connection_string": (
        r"(?:postgres(?:ql)?|mysql|mariadb|mongodb|rediss?|amqps?|mssql|clickhouse|ftps?|sftp|smtps?|ldaps?)"
        r"(?:\+[a-z0-9]+)?://[^\s:@/\"'<>]*:[^\s\"'<>/]{1,256}@"
    ),
    # A header that begins with {" in base64url, a payload, a signature that may be empty: RFC 7519, 3.
    "jwt": r"eyJ[A-Za-z0-9_=-]{8,}\.eyJ[A-Za-z0-9_=-]{8,}\.?[A-Za-z0-9_.+/=-]*",
}
_PRIVATE_KEY = r"-----BEGIN[A-Z0-9 ]{0,40}PRIVATE KEY[A-Z ]{0,10}-----"
_SHORTEST = 12  # a connection string: amqp://:a@b
_REPEATED = re.compile(r"(.)\1{7,}")
_FEWEST = 12  # characters of a token, not counting repeated ones
_EXAMPLES = frozenset({"password", "pass", "passwd", "secret", "pw", "pwd"})
_STANDS_FOR = re.compile(r"<.*>|\{.*\}|%.*%|\$.*|[x*.…_]+|your.*")


class Secrets:
    name = "secrets"
    default_action: Action = "block"

    def __init__(self) -> None:
        self._patterns = [
            (kind, int("(?P<secret>" in pattern), _compiled(pattern).finditer) for kind, pattern in _patterns()
        ]
        # One pass says for nearly every word that there is nothing in it.
        self._any = _compiled("|".join(f"(?:{pattern.replace('?P<secret>', '?:')})" for _, pattern in _patterns()))
        told = "\0".join(f"{kind} {pattern}" for kind, pattern in _patterns())
        self.version = hashlib.sha256(told.encode()).hexdigest()[:12]

    def worth(self, run: str) -> bool:
        return len(run) >= _SHORTEST

    def find(self, run: str) -> list[Finding]:
        # RE2 works on UTF-8, which has no lone surrogates; they are in no secret.
        text = run.encode("utf-8", "replace").decode() if not run.isascii() else run
        if not self._any.search(text):
            return []
        found = [
            Finding(kind, match.start(part), match.end(part), 1.0)
            for kind, part, matches in self._patterns
            for match in matches(text)
            if not _is_placeholder(kind, match.group(part))
        ]
        return sorted(found, key=lambda finding: (finding.start, -finding.end))

    def mask(self, kind: str) -> str:
        return f"<SECRET:{kind}>"


def _patterns() -> Iterator[tuple[str, str]]:
    for kind, plugin in _PLUGINS.items():
        for pattern in plugin.denylist:
            if ".{0,20}" not in pattern.pattern:  # needs the words around it, which are in other runs
                yield kind, f"(?i){pattern.pattern}" if pattern.flags & re.IGNORECASE else pattern.pattern
    for kind, own in _OWN.items():
        yield kind, f"{_HERE}(?P<secret>{own})"
    yield PRIVATE_KEY, _PRIVATE_KEY


def _compiled(pattern: str) -> Any:
    return re2.compile(pattern, _quiet())


def _quiet() -> Any:
    options = re2.Options()
    options.log_errors = False
    return options


def _is_placeholder(kind: str, text: str) -> bool:
    """`https://user:password@host` in a manual is an example, and so is a key made of one letter.

    Only what is an example as a whole: a key with sixteen dashes behind it is still a key.
    """
    if "://" in text and text.endswith("@"):
        password = text.lower().rsplit(":", 1)[-1].removesuffix("@")
        return password in _EXAMPLES or _STANDS_FOR.fullmatch(password) is not None
    if kind == "api_key" and text.islower() and not any(map(str.isdigit, text)):
        return True  # a name in kebab case, like a style sheet's sk-folding-cube-wrapper
    return len(_REPEATED.sub("", text)) < _FEWEST
