"""Pictures, links and addresses that would carry something of the conversation to a stranger's server.

What a chat window fetches by itself (pictures, whatever HTML loads) needs an allowed host. A link needs a click: there
a host will do that the caller, the passages or our own instructions have named, or the reader's own machine. Markdown is read as CommonMark does
(https://spec.commonmark.org/0.31.2/), HTML as browsers do, both on the side of caution where renderers differ.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Sequence
from typing import Literal

import re2

from guardrails.addresses import Hosts, named, own, servers
from guardrails.folding import Folded
from guardrails.rendering import rendered
from guardrails.text_checks import Context, Cost
from guardrails.verdicts import Action, Finding

_RULES = 1  # counts up when the same text may be judged otherwise
_MOST = 4_000  # addresses of one text that are looked at; what follows is taken for one finding

_BREAK = r"[\t\n\r]*"  # white space that browsers leave out of an attribute's address


def _spread(word: str) -> str:
    return _BREAK.join(re.escape(letter) for letter in word) + _BREAK + ":"


_FETCHED = "|".join(
    (*(_spread(scheme) for scheme in ("https", "http", "ftp", "wss", "ws", "data", "javascript", "vbscript", "file")),
     rf"[/\\]{_BREAK}[/\\]")
)  # fmt: skip
_DESTINATION = r"(?:(?:https?|ftps?|wss?|file|smb|data|javascript|vbscript|mailto)\\?:|[a-z][a-z0-9+.-]{0,30}\\?:(?:\\?[/\\]){2}|(?:\\?[/\\]){2})"
_IPV6 = r"(?:\[[0-9a-f:.]*\])?"
_WHERE = re2.compile(
    r"(?i)"
    r"\]\(\s*(?P<inline>" + _DESTINATION + _IPV6 + r"[^\s<>\"'`\[\]()]*|<" + _DESTINATION + r"[^<>\n]*)"
    r"|\]:\s*(?P<reference>" + _DESTINATION + _IPV6 + r"[^\s<>\"'`\[\]()]*|<" + _DESTINATION + r"[^<>\n]*)"
    r"|[\s\"'/;][\w:.@-]+\s*=\s*(?:"
    r"[\"']\s*(?P<quoted>(?:" + _FETCHED + r")(?:[^\s\"'<>]|[\t\n\r]+[^\s\"'<>])*)"
    r"|(?P<unquoted>(?:" + _FETCHED + r")[^\s\"'<>]*))"
    r"|url\(\s*[\"']?\s*(?P<css>(?:" + _FETCHED + r"|[a-z]*\\)[^\s\"'<>()]*)"
    r"|@import\s*[\"']\s*(?P<imported>(?:" + _FETCHED + r"|[a-z]*\\)[^\s\"'<>()]*)"
    r"|(?P<bare>(?:https?|ftp)://" + _IPV6 + r"[^\s<>\"'`\[\]()]*|\bwww\.[^\s<>\"'`\[\]()]+)"
    r"|[\s,](?P<listed>[/\\]{2}[\pL\pN][^\s<>\"'`\[\]()]*)"
)
_PLACES = {index: name for name, index in _WHERE.groupindex.items()}
_TAG = re.compile(r"<[A-Za-z!/?]")
# What makes any address in a page one that is fetched: lists of addresses, scripts, handlers of events.
_ACTS = re2.compile(r"(?i)srcset|ping|archive|<script|\bon[a-z]+\s*=")
_ANCHOR = re.compile(r"""<a(?:\s+[\w-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'))*\s+href\s*=\s*["']?\s*\Z""", re.IGNORECASE)
_PARAGRAPH_END = re.compile(r"\n[ \t>]*\n")
_LONGEST_PARAGRAPH = 10_000
_UNCERTAIN = re.compile(r"[`\\<$]")
_BRACKET = re.compile(r"!?\[|\]")
_REST = re.compile(r"(?:\([^\s()<>]*\)|[^\s()<>\[\]])+")  # of an address, with parentheses and quotes in it
_TRAILING = ".,;:!?*_~"
_SCRIPT = re.compile(r"(?:javascript|vbscript)\\?:", re.IGNORECASE)
_DATA = re.compile(r"data\\?:", re.IGNORECASE)
_PICTURE_DATA = re.compile(r"data:image/(?:png|jpe?g|gif|webp|avif);base64,[A-Za-z0-9+/=]*\Z", re.IGNORECASE)
_SCORES = {"image": 1.0, "html": 1.0, "data": 1.0, "script": 1.0, "link": 0.7, "url": 0.5}


class Exfiltration:
    name = "exfiltration"
    default_action: Action = "mask"
    cost: Cost = "cheap"

    def __init__(
        self,
        allowed_hosts: Sequence[str] = (),
        links: Literal["named", "allowed", "any"] = "named",
        bare_urls: bool = True,
        data_images: bool = False,
    ) -> None:
        """`allowed_hosts` are `host` or `*.suffix`, for everything. Links and addresses in the text may also lead to
        hosts that are `named` in the conversation, or to `any`. `bare_urls` false leaves addresses in the text alone,
        `data_images` true pictures that are in the text themselves. Raises ValueError for a host that is none.
        """
        self._allowed = Hosts(allowed_hosts)
        self._links = links
        self._bare = bare_urls
        self._data_images = data_images
        hosts = ",".join(sorted(allowed_hosts))
        self.version = f"{_RULES} {links} {int(bare_urls)}{int(data_images)} {hosts}"
        rendered("\u200b")  # its table is made now, not within a call

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        known = _Named(context) if self._links == "named" else None
        return [self._find(text, known) for text in texts]

    def _find(self, text: str, known: _Named | None) -> tuple[Finding, ...]:
        view = rendered(text)
        page = _Page(view.text)
        found: list[Finding] = []
        for seen, match in enumerate(_WHERE.finditer(view.text)):
            if seen == _MOST:
                start, _ = view.span(match.start(), match.end())
                found.append(Finding("too_many", start, len(text), 1.0))
                break
            group = match.lastindex
            place = _PLACES[group]
            start, end = match.span(group)
            if (kind := page.kind(place, start, match.start())) is None:
                continue
            address = match[group].strip("<")
            if (kind := self._judged(kind, address, known)) is not None:
                found.append(_placed(view, kind, start, end, place))
        return tuple(found)

    def _judged(self, kind: str, address: str, known: _Named | None) -> str | None:
        """The kind of finding that an address is in its place, None where it may stay."""
        plain = "".join(address.split())
        if _SCRIPT.match(plain):
            return "script"
        if _DATA.match(plain):
            return None if self._data_images and _PICTURE_DATA.match(plain) else "data"
        if kind == "url" and not self._bare:
            return None
        needs_click = kind in ("link", "url")
        if needs_click and self._links == "any":
            return None
        if plain[:4].lower() == "www.":
            plain = "//" + plain
        for host in servers(plain if kind != "html" else address):
            if host in self._allowed or (needs_click and (own(host) or (known is not None and host in known))):
                continue
            return kind
        return None


class _Named:
    """The hosts that the conversation names; looked for only when a link asks."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._hosts: frozenset[str] | None = None

    def __contains__(self, host: str) -> bool:
        if self._hosts is None:
            context = self._context
            self._hosts = named((*context.passages, context.question, context.instructions))
        return host in self._hosts


class _Page:
    """What decides what an address in a text is for."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._has_tags = _TAG.search(text) is not None
        self._acts = self._has_tags and _ACTS.search(text) is not None
        self._pictures = [match.start() for match in re.finditer(r"!\[", text)] if "![" in text else []
        self._ends = [match.start() for match in _PARAGRAPH_END.finditer(text)] if self._pictures else []
        self._paragraphs: dict[int, frozenset[int] | None] = {}

    def kind(self, place: str, start: int, begin: int) -> str | None:
        """Of an address that stands at `start`; what shows its place begins at `begin`. None where it is none."""
        match place:
            case "inline":
                return "image" if self._behind_picture(begin) else "link"
            case "reference":
                # Which picture or link uses a definition, and whether two names are the same, need not be decided.
                return "image" if self._pictures else "link"
            case "quoted" | "unquoted":
                if not self._has_tags:
                    return "url" if self._text[start : start + 4].lower() in ("http", "ftp:") else None
                return "link" if _ANCHOR.search(self._text, max(0, start - 500), start) else "html"
            case "css" | "imported":
                return "html"
            case "listed":
                return "html" if self._acts else None
            case _:
                return "html" if self._acts else "url"

    def _behind_picture(self, bracket: int) -> bool:
        """Whether the link that `bracket` closes is a picture, or may be one.

        Code, escapes and HTML decide which brackets count, and renderers differ there: in a paragraph that has any of
        them, whatever stands behind the beginning of a picture counts as one.
        """
        last = bisect.bisect_left(self._pictures, bracket) - 1
        if last < 0:
            return False
        order = bisect.bisect_left(self._ends, bracket)
        begin = self._ends[order - 1] if order else 0
        if self._pictures[last] < begin:
            return False
        if order not in self._paragraphs:
            end = self._ends[order] if order < len(self._ends) else len(self._text)
            self._paragraphs[order] = self._closing_pictures(begin, end)
        closing = self._paragraphs[order]
        return closing is None or bracket in closing

    def _closing_pictures(self, begin: int, end: int) -> frozenset[int] | None:
        """The brackets that close a picture or stand in one; None where that is not certain."""
        if end - begin > _LONGEST_PARAGRAPH or _UNCERTAIN.search(self._text, begin, end):
            return None
        opened: list[bool] = []  # whether each is a picture's
        pictures = 0  # of them
        found = []
        for bracket in _BRACKET.finditer(self._text, begin, end):
            if bracket[0] != "]":
                opened.append(bracket[0] == "![")
                pictures += opened[-1]
            elif opened:
                if pictures:
                    found.append(bracket.start())
                pictures -= opened.pop()
        return frozenset(found)


def _placed(view: Folded, kind: str, start: int, end: int, place: str) -> Finding:
    """The finding, with what belongs to its address behind parentheses."""
    text = view.text
    if text.startswith("<", start):
        end = min(end + 1, len(text)) if text.startswith(">", end) else end
    elif place in ("inline", "reference", "bare", "listed"):
        if (rest := _REST.match(text, end)) is not None:
            end = rest.end()
        end = start + len(text[start:end].rstrip(_TRAILING)) if place == "bare" else end
    begin, stop = view.span(start, end)
    return Finding(kind, begin, stop, _SCORES[kind])
