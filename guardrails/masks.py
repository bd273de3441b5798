"""Findings replaced in a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from guardrails.json_text import JsonPlace, Span
from guardrails.verdicts import Verdict

_ODD = re.compile(r"[^\w./-]")


def masked(text: str, spans: list[Span]) -> str:
    """`text` with its spans replaced; where they overlap, the first and longest one names the whole."""
    if not spans:
        return text
    out: list[str] = []
    at = 0
    for start, end, mask in sorted(spans, key=lambda span: (span[0], -span[1], span[2])):
        if start >= at:
            out += (text[at:start], mask)
            at = end
        elif end > at:
            at = end
    out.append(text[at:])
    return "".join(out)


def masked_by(verdicts: Sequence[Verdict], text: str, *, in_json: bool = False) -> str:
    """A whole text with what its verdicts mask replaced."""
    spans = [
        (finding.start, finding.end, mask_of(verdict.check, finding.kind))
        for verdict in verdicts
        if verdict.action == "mask"
        for finding in verdict.findings
    ]
    return masked(text, JsonPlace().fit(text, spans) if in_json and spans else spans)


def mask_of(check: str, kind: str) -> str:
    """Check and kind: `<keywords.project_names>`. With a colon Markdown would take that for a link."""
    return f"<{_ODD.sub('_', kind if kind == check or kind.startswith(f'{check}.') else f'{check}.{kind}')}>"


def masked_parts(verdicts: Sequence[Verdict], parts: Sequence[str]) -> list[str]:
    """The same for a text that was judged as its parts, one a line."""
    told = []
    at = 0
    for part in parts:
        end = at + len(part)
        inside = [
            replace(
                verdict,
                findings=tuple(
                    replace(found, start=max(found.start, at) - at, end=min(found.end, end) - at)
                    for found in verdict.findings
                    if found.start < end and found.end > at
                ),
            )
            for verdict in verdicts
        ]
        told.append(masked_by(inside, part))
        at = end + 1
    return told
