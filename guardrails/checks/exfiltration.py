"""Pictures, links and addresses that would carry something of the conversation to a stranger's server.

What a chat window fetches by itself (pictures, whatever HTML loads) needs an allowed host. A link needs a click: there
a host will do that the caller, the passages or our own instructions have named, or the reader's own machine. Markdown is read as CommonMark does
(https://spec.commonmark.org/0.31.2/), HTML as browsers do, both on the side of caution where renderers differ.

A text is judged as it comes: prose word by word, and from the first sign of a link, a picture or a tag to the end of
the paragraph at once. What later paragraphs need to know of earlier ones is little (`_Earlier`): no tag, and no
picture, begins before it begins.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import re2

from guardrails.addresses import Hosts, named, own, servers
from guardrails.checks.exfiltration_parts import Part, Parts, prepare
from guardrails.folding import Folded
from guardrails.rendering import rendered
from guardrails.text_checks import Context, Cost, Flow, Horizon
from guardrails.verdicts import Action, Finding

_RULES = 2  # counts up when the same text may be judged otherwise
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
_PICTURE = re.compile(r"!\[")
_INLINE_PICTURE = re.compile(r"!\[[^\[\]]*\]\(")
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
        prepare()

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        known = _Named(context) if self._links == "named" else None
        found = []
        for text in texts:
            flow = _Flow(self, known)
            _, early = flow.feed(text)
            found.append((*early, *flow.finish()))
        return found

    def horizon(self, action: Action) -> Horizon:
        return "paragraph"

    def flow(self, context: Context) -> Flow:
        return _Flow(self, _Named(context) if self._links == "named" else None)

    def find(self, text: str, known: _Named | None, earlier: _Earlier) -> Iterator[Finding]:
        """What is in one part of a text, by its places there; `earlier` learns what later parts need to know."""
        view = rendered(text)
        page = _Page(view.text, earlier)
        for match in _WHERE.finditer(view.text):
            earlier.seen += 1
            if earlier.seen > _MOST:
                start, _ = view.span(match.start(), match.end())
                yield Finding("too_many", start, len(text), 1.0)
                return
            group = match.lastindex
            place = _PLACES[group]
            start, end = match.span(group)
            if (kind := page.kind(place, start, match.start())) is None:
                continue
            address = match[group].strip("<")
            if (told := self._judged(kind, address, known)) is not None:
                yield _placed(view, told, start, end, place)
            elif place == "reference" and kind == "link" and self._judged("image", address, known) is not None:
                earlier.only_links = True
        if page.pictures and earlier.had_only_links:
            # Any of them may be shown from a definition that was good for a link, and has left.
            inline = {match.start() for match in _INLINE_PICTURE.finditer(view.text)}
            for at in page.pictures:
                if at not in inline:
                    yield Finding("image", *view.span(at, at + 2), _SCORES["image"])
        earlier.had_only_links |= earlier.only_links

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


@dataclass(slots=True)
class _Earlier:
    """What a part of a text needs to know of those before it."""

    tags: bool = False
    acts: bool = False
    pictures: bool = False
    only_links: bool = False  # a definition has left whose address may be a link's, not a picture's …
    had_only_links: bool = False  # … in a part before this one
    seen: int = 0  # addresses


class _Flow:
    """A text on its way, part by part."""

    def __init__(self, check: Exfiltration, known: _Named | None) -> None:
        self._check = check
        self._known = known
        self._earlier = _Earlier()
        self._parts = Parts()

    def feed(self, text: str) -> tuple[int, list[Finding]]:
        found = self._found(self._parts.feed(text))
        return self._parts.begin, found

    def finish(self) -> list[Finding]:
        return self._found(self._parts.finish())

    def _found(self, parts: Sequence[Part]) -> list[Finding]:
        return [
            Finding(found.kind, begin + found.start, begin + found.end, found.score)
            for begin, part in parts
            for found in self._check.find(part, self._known, self._earlier)
        ]


class _Page:
    """What decides what an address in a part of a text is for."""

    def __init__(self, text: str, earlier: _Earlier) -> None:
        self._text = text
        earlier.tags |= _TAG.search(text) is not None
        earlier.acts |= earlier.tags and _ACTS.search(text) is not None
        self._has_tags, self._acts = earlier.tags, earlier.acts
        self.pictures = [match.start() for match in _PICTURE.finditer(text)] if "![" in text else []
        earlier.pictures |= bool(self.pictures)
        self._any_pictures = earlier.pictures
        self._ends = [match.start() for match in _PARAGRAPH_END.finditer(text)] if self.pictures else []
        self._paragraphs: dict[int, frozenset[int] | None] = {}

    def kind(self, place: str, start: int, begin: int) -> str | None:
        """Of an address that stands at `start`; what shows its place begins at `begin`. None where it is none."""
        match place:
            case "inline":
                return "image" if self._behind_picture(begin) else "link"
            case "reference":
                # Which picture or link uses a definition, and whether two names are the same, need not be decided.
                return "image" if self._any_pictures else "link"
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
        last = bisect.bisect_left(self.pictures, bracket) - 1
        if last < 0:
            return False
        order = bisect.bisect_left(self._ends, bracket)
        begin = self._ends[order - 1] if order else 0
        if self.pictures[last] < begin:
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
