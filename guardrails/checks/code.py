"""Code in a text by its language, and commands that destroy, spy or fetch and run what nobody has read.

Which commands: those of GTFOBins (https://gtfobins.github.io) and MITRE ATT&CK's techniques T1485 Data Destruction,
T1490 Inhibit System Recovery, T1048 Exfiltration, T1105 Ingress Tool Transfer and T1059 Command Interpreter that come
in one line. A list of patterns knows what is usual, not what is clever.

A text is judged paragraph by paragraph, short ones with the next: no command holds an empty line. Fenced code that is
not allowed is one piece.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal

import re2

from guardrails.folding import encodable
from guardrails.text_checks import Context, Cost, Flow, Horizon
from guardrails.verdicts import Action, Finding

_RULES = 2  # counts up when the same text may be judged otherwise
_PIECE = 4_000  # characters that are searched at once …
_LONGEST = 1_000  # … and those that a command may reach beyond
_MOST = 1_000  # findings of one kind in one text; the last reaches to its end

Danger = Literal["destructive", "exfiltrating", "remote_code", "reverse_shell"]
DANGERS: tuple[Danger, ...] = ("destructive", "exfiltrating", "remote_code", "reverse_shell")

_FEWEST = 100  # characters of one part
_EMPTY_LINE = re.compile(r"\n[ \t\r]*(?=\n)")
_FENCE = re2.compile(r"(?m)^[ \t>]*(`{3,}|~{3,})[ \t]*(?:\{?\.?([\w+#.-]*))([^\n`]*)$")
_ALIASES = {
    "py": "python", "python3": "python", "js": "javascript", "node": "javascript", "ts": "typescript",
    "sh": "shell", "bash": "shell", "zsh": "shell", "fish": "shell", "console": "shell", "terminal": "shell",
    "shell-session": "shell", "ps1": "powershell", "pwsh": "powershell", "bat": "batch", "cmd": "batch",
    "rb": "ruby", "rs": "rust", "golang": "go", "c++": "cpp", "cs": "csharp", "c#": "csharp", "yml": "yaml",
    "htm": "html", "md": "markdown", "text": "plain", "txt": "plain", "plaintext": "plain", "": "unnamed",
}  # fmt: skip

_ARG = r"(?:\s|\\\n)+(?:[^\s;|&]+(?:\s|\\\n)+)*?"  # whatever stands between a command and the argument that matters
_LINE = r"[^\n]*?"
_SYSTEM = r"[\"']?(?:/(?:\*|bin|boot|dev|etc|home|lib\w*|opt|root|sbin|srv|sys|usr|var)?/?\*?|~/?\*?|\$\{?HOME\}?/?\*?|\.\.?/?\*?|\*|[A-Za-z]:\\\*?)[\"']?(?:\s|$|[;&|)`])"
_DISK = r"/dev/(?:sd|hd|vd|xvd|nvme|mmcblk|disk|mapper)\w*"
_SENDER = r"(?:curl|wget|nc|ncat|netcat|socat|telnet|openssl\s+s_client|ssh|ftp|Invoke-WebRequest|iwr)"
_SECRETS = r"(?:\.ssh\b|id_(?:rsa|ed25519|ecdsa)|\.aws\b|credentials|\.env\b|\.kube\b|\.netrc|/etc/(?:passwd|shadow)|\.git-credentials|os\.environ|process\.env)"
_SHELL = r"(?:sudo\s+)?(?:(?:/usr)?/bin/)?(?:ba|z|da|k)?sh|(?:sudo\s+)?(?:python|perl|ruby|node|php)\d*(?:\.\d+)?"
_COMMANDS: dict[Danger, tuple[str, ...]] = {
    "destructive": (
        r"\brm" + _ARG + r"(?:-[A-Za-z]*[rR][A-Za-z]*|--recursive)(?:\s+-[\w-]+)*\s+(?:--\s+)?" + _SYSTEM,
        r"\brm" + _ARG + r"--no-preserve-root",
        r"\bmkfs(?:\.\w+)?" + _ARG + r"/dev/",
        r"\bdd" + _ARG + r"of=" + _DISK,
        r">\s*" + _DISK,
        r"\b(?:wipefs|shred|blkdiscard)" + _ARG + _DISK,
        r"\w*:?\(\)\s*\{\s*[\w:]+\s*\|\s*[\w:]+\s*&\s*\}\s*;",
        r"\bfind\s+(?:/|~|\$HOME)\S*\s" + _LINE + r"(?:-delete\b|-exec\s+rm\b)",
        r"\bch(?:mod|own)" + _ARG + r"-[A-Za-z]*R[A-Za-z]*\s+\S+\s+/\*?(?:\s|$|[;&|)`\"'])",
        r"\bRemove-Item\b" + _LINE + r"-Recurse\b" + _LINE + r"-Force\b",
        r"\b(?:del|erase)\s+(?:/[a-z]\s+)*/s\b",
        r"\b(?:rd|rmdir)\s+/s\b",
        r"\bformat\s+[a-z]:",
        r"\bvssadmin\s+delete\s+shadows\b",
        r"\bshutil\.rmtree\(\s*[\"'](?:/|~)[\"'/]",
        r"\b(?:DROP\s+(?:TABLE|DATABASE|SCHEMA)|TRUNCATE\s+TABLE)\s+\S",
        r"\bDELETE\s+FROM\s+[\w.\"`\[\]]+\s*;",
        r"\bkubectl\s+delete\s+(?:ns|namespaces?|all|\S+\s+--all)\b",
        r"\bterraform\s+destroy\b",
        r"\baws\s+s3\s+(?:rb\s" + _LINE + r"--force|rm\s" + _LINE + r"--recursive)",
        r"\bgit\s+push\s" + _LINE + r"--mirror\b",
    ),
    "exfiltrating": (
        r"\bcurl\s" + _LINE + r"(?:-d|--data(?:-\w+)?|-F|--form|-T|--upload-file)[ =]*[\"']?(?:\S*=)?(?:@|\$\(|\$\{?[A-Z_]{3,}|`)",
        r"\bwget\s" + _LINE + r"--(?:post-file|body-file|post-data)[ =]*\S*(?:\$\(|`|/|\.)",
        r"\b(?:cat|env|printenv|set|base64|tar|zip|gzip|mysqldump|pg_dump|history)\b" + _LINE + r"\|\s*" + _SENDER + r"\b",
        r"\b" + _SENDER + r"\b" + _LINE + r"\$\((?:cat|env|printenv|base64|tar)\b",
        r"\b(?:scp|rsync|sftp)\s" + _LINE + _SECRETS,
        r"\b" + _SENDER + r"\b" + _LINE + _SECRETS,
        r"\b(?:requests|httpx|axios|fetch)(?:\.\w+)?\(" + _LINE + _SECRETS,
        r"\b(?:Invoke-WebRequest|Invoke-RestMethod|iwr|irm)\b" + _LINE + r"-(?:InFile|Body)\b",
    ),
    "remote_code": (
        r"\b(?:curl|wget|fetch)\s" + _LINE + r"\|\s*(?:" + _SHELL + r")\b",
        r"(?:" + _SHELL + r")\s+(?:-c\s+)?[\"']?(?:<\(|\$\(|`)\s*(?:curl|wget)\b",
        r"\beval\s+[\"']?(?:\$\(|`)\s*(?:curl|wget)\b",
        r"\b(?:IEX|Invoke-Expression)\b" + _LINE + r"(?:DownloadString|Invoke-WebRequest|iwr|irm)\b",
        r"\b(?:iwr|irm|Invoke-WebRequest|Invoke-RestMethod)\b" + _LINE + r"\|\s*(?:iex|Invoke-Expression)\b",
        r"\bbase64\s+(?:-d|-D|--decode)\b" + _LINE + r"\|\s*(?:" + _SHELL + r")\b",
    ),
    "reverse_shell": (
        r"/dev/(?:tcp|udp)/[\w.$-]+/[\w$]+",
        r"\b(?:nc|ncat|netcat)\s" + _LINE + r"(?:-e|-c|--exec)\s*\S*(?:sh|cmd)",
        r"\bmkfifo\s" + _LINE + r"\|\s*(?:nc|ncat|netcat)\b",
        r"\bsocat\s" + _LINE + r"exec:",
        r"socket\.socket\(" + _LINE + r"(?:dup2|subprocess|pty\.spawn)",
    ),
}  # fmt: skip


class Code:
    name = "code"
    default_action: Action = "flag"
    cost: Cost = "cheap"

    def __init__(
        self,
        allow: Sequence[str] | None = None,
        deny: Sequence[str] = (),
        commands: Sequence[Danger] = DANGERS,
    ) -> None:
        """Fenced code of languages that are not in `allow`, where it is given, or that are in `deny`; `unnamed` is a
        fence without a name. `commands`: which kinds are looked for in the whole text. Raises ValueError for others.
        """
        for danger in commands:
            if danger not in _COMMANDS:
                raise ValueError(f"there are no commands `{danger}`; there are {', '.join(DANGERS)}")
        self._allow = None if allow is None else frozenset(map(_language, allow))
        self._deny = frozenset(map(_language, deny))
        self._commands = [(danger, _compiled(danger)) for danger in commands]
        told = (sorted(self._allow) if self._allow is not None else None, sorted(self._deny), sorted(commands))
        self.version = f"{_RULES} {told}"

    async def judge(self, texts: Sequence[str], context: Context) -> list[tuple[Finding, ...]]:
        """Kinds: `language.<name>` over a whole fence, and those of `commands`."""
        return [self._find(text, context) for text in texts]

    def horizon(self, action: Action) -> Horizon:
        return "paragraph"

    def flow(self, context: Context) -> Flow:
        return _Flow(self)

    def _find(self, text: str, context: Context) -> tuple[Finding, ...]:
        flow = self.flow(context)
        _, early = flow.feed(text)
        found: list[Finding] = []
        counts: Counter[str] = Counter()
        for each in (*early, *flow.finish()):
            counts[each.kind] += 1
            if counts[each.kind] <= _MOST:
                found.append(each)
            elif counts[each.kind] == _MOST + 1:
                found.append(Finding(each.kind, each.start, len(text), each.score))
        return tuple(found)

    @property
    def looks_at_fences(self) -> bool:
        return self._allow is not None or bool(self._deny)

    def denies(self, language: str) -> bool:
        return language in self._deny or (self._allow is not None and language not in self._allow)

    def commands(self, text: str) -> Iterator[Finding]:
        for danger, pattern in self._commands:
            for start, end in _matches(pattern, text):
                yield Finding(danger, start, end, 1.0)


class _Flow:
    """A text, cut before each empty line that does not stand in fenced code of a language that is not allowed."""

    def __init__(self, check: Code) -> None:
        self._check = check
        self._pieces: list[str] = []
        self._line = ""  # "\n" where the line that is being written is empty so far
        self._text = ""
        self._begin = 0  # where `_text` begins in the whole
        self._looked = _FEWEST  # in `_text`, no empty line begins before that could end the part
        self._read = 0  # in `_text`, fences are known up to here
        self._open: tuple[str, int, str] | None = None  # a fence's language, where it begins, and what closes it

    def feed(self, text: str) -> tuple[int, list[Finding]]:
        self._pieces.append(encodable(text))
        if "\n" not in text:
            self._line = self._line if not text.strip(" \t\r") else ""
            return self._begin, []
        worth = _EMPTY_LINE.search(self._line + text) is not None
        self._line = "\n" if text.rstrip(" \t\r").endswith("\n") else ""
        found = self._parts() if worth else []
        return self._begin, found

    def finish(self) -> list[Finding]:
        told = self._parts()
        told += self._fences(self._text, len(self._text))
        if self._open is not None and self._check.denies(self._open[0]):
            language, start, _ = self._open
            told.append(Finding(f"language.{language}", start, self._begin + len(self._text), 1.0))
        return [*told, *self._commands(self._text, 0)]

    def _parts(self) -> list[Finding]:
        text = self._text + "".join(self._pieces)
        self._pieces = []
        told: list[Finding] = []
        begin = 0
        while (line := _EMPTY_LINE.search(text, self._looked)) is not None:
            told += self._fences(text, line.start())
            if self._open is None or not self._check.denies(self._open[0]):
                told += self._commands(text[begin : line.start()], begin)
                begin = line.start()
            self._looked = line.start() + _FEWEST
        self._looked = max(self._looked, len(text.rstrip(" \t\r")) - 1) - begin
        self._text = text[begin:]
        self._begin += begin
        self._read = max(self._read - begin, 0)
        return told

    def _fences(self, text: str, end: int) -> list[Finding]:
        """Those that are not allowed and close before `end`, where a line ends."""
        told: list[Finding] = []
        if not self._check.looks_at_fences:
            return told
        part, offset = text[self._read : end], self._begin + self._read
        self._read = end
        for line in _FENCE.finditer(part) if "```" in part or "~~~" in part else ():
            if self._open is None:
                self._open = (_language(line[2]), offset + line.start(), line[1])
            elif line[1].startswith(self._open[2]) and not (line[2] or line[3].strip()):
                if self._check.denies(self._open[0]):
                    told.append(Finding(f"language.{self._open[0]}", self._open[1], offset + line.end(), 1.0))
                self._open = None
        return told

    def _commands(self, part: str, begin: int) -> list[Finding]:
        offset = self._begin + begin
        return [Finding(f.kind, f.start + offset, f.end + offset, f.score) for f in self._check.commands(part)]


def _matches(pattern: re2._Regexp, text: str) -> Iterator[tuple[int, int]]:
    """Piece by piece: in a line without end each match might have to look at all of it."""
    told = 0
    for begin in range(0, max(1, len(text)), _PIECE):
        piece = text[begin : begin + _PIECE + _LONGEST]
        for match in pattern.finditer(piece):
            if match.start() < _PIECE and begin + match.start() >= told:
                told = begin + match.end()
                yield begin + match.start(), told


def _language(name: str) -> str:
    plain = name.lower()
    return _ALIASES.get(plain, re.sub(r"[^\w+#-]", "_", plain)[:30])


def _compiled(danger: Danger) -> re2._Regexp:
    options = re2.Options()
    options.max_mem = 64 << 20
    return re2.compile("(?im)" + "|".join(f"(?:{pattern})" for pattern in _COMMANDS[danger]), options)
