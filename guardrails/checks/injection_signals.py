"""Marks of an injection that can be named: RE2 patterns over folded, lower-case text, linear in its length.

The families of words that attacks are made of: putting off the rules, asking for what is hidden, being somebody
without rules, speaking to the machine out of a document, and the marks by which prompts part one role from another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice
from typing import Any

import re2

_MOST = 500  # signals of one family that are told of one text
_GAP = r"[\s\W]{1,6}"
_VERB = (
    r"(?:ignor(?:e|ing)|disregard(?:ing)?|forget|override|overrule|bypass|discard|dismiss|overlook|neglect|unlearn|"
    r"skip|drop|erase|wipe|cancel|abandon|delete|undo|suspend|(?:do not|don'?t|no longer|stop|quit|never)\s+"
    r"(?:follow(?:ing)?|obey(?:ing)?|listen(?:ing)?\s+to|adher(?:e|ing)\s+to)|pay\s+no\s+attention\s+to|"
    r"set\s+aside|put\s+aside|throw\s+(?:away|out)|leave\s+behind|get\s+rid\s+of|break\s+free\s+(?:of|from))"
)
_ANY = (
    r"(?:(?:about|all|any|every(?:\s+one)?|each|of|and|or|the|this|these|those|that|your|my|his|our|their|its|other|"
    r"everything|anything|whatever|most|just|completely|entirely)" + _GAP + r"){0,5}"
)
_EARLIER = (
    r"(?:previous(?:ly)?|prior|preceding|above(?:-?mentioned)?|earlier|former|foregoing|past|existing|initial|original|"
    r"current|old|system|given|aforementioned|aforesaid|default|built-?in|hidden|safety|ethical|moral|internal|own|"
    r"openai(?:'?s)?|developer'?s?|content|precedent|antecedent|first)"
)
_RULES = (
    r"(?:instruct?ions?|directions?|prompts?|rules?|commands?|guidelines?|guidance|orders?|directives?|constraints?|"
    r"messages?|contexts?|texts?|conversations?|programming|policy|policies|restrictions?|limitations?|assignments?|"
    r"tasks?|training|principles?|guardrails?|filters?|protocols?|requirements?|safeguards?|settings?|statements?|"
    r"requests?|content|information|words?|inputs?|sentences?|paragraphs?|dialog(?:ue)?s?|history)"
)
_MACHINE = (
    r"(?:ai|a\.i\.|llms?|(?:large\s+)?language\s+models?|(?:ai|virtual|automated|digital)\s+(?:assistants?|agents?|"
    r"models?|systems?|readers?|reviewers?)|chat\s?bots?|chatgpt|gpt(?:-?\d)?|claude|gemini|copilot|llama|summari[sz]ers?)"
)
_HIDDEN = (
    r"(?:system|initial|original|hidden|secret|internal|first|starting|developer|confidential|full|entire|complete|"
    r"exact|pre-?|base|underlying|core|previous|above|preceding)"
)
_SHOW = (
    r"(?:reveal|print|show|repeat|output|display|recite|disclose|leak|expose|dump|echo|share|quote|spell|list|write|"
    r"give|tell|return|translate|summari[sz]e|paraphrase|rephrase|encode|describe|copy|send|read|say|state|provide|"
    r"reproduce|restate|regurgitate|convert)"
)

_PATTERNS: dict[str, tuple[str, ...]] = {
    "override": (
        rf"\b{_VERB}{_GAP}{_ANY}{_EARLIER}(?:{_GAP}(?:{_EARLIER}|and|or|the|your)){{0,3}}{_GAP}{_RULES}\b",
        rf"\b{_VERB}{_GAP}{_ANY}{_RULES}{_GAP}(?:that\s+|which\s+)?(?:you|i|we|they)?\s*(?:were|was|have|had|'ve|"
        r"are|got|received|came|come|appear(?:s|ed)?|precede[sd]?|gave|told|above|before|so\s+far|until\s+now|earlier|previously)\b",
        rf"\b{_VERB}{_GAP}(?:all|everything|anything|whatever|every\s*thing|what)\b[^.!?\n]{{0,40}}"
        r"\b(?:above|before|told|said|instructed|learned|learnt|so\s+far|until\s+now|prior|earlier|up\s+to\s+(?:now|this))\b",
        rf"\b{_VERB}{_GAP}(?:all\s+)?(?:of\s+)?your{_GAP}(?:\w+{_GAP}){{0,2}}"
        r"(?:instructions?|rules?|guidelines?|programming|restrictions?|training|directives?|prompts?|principles?|policies|constraints?|limitations?)\b",
        r"\b(?:new|updated|real|actual|true|only|following)\s+(?:system\s+)?(?:instructions?|rules?|directives?|orders?|prompt|policy|task)"
        r"\s*(?:is|are|:|follow|below)",
        r"\b(?:the\s+)?(?:above|previous|prior|preceding|earlier|old)\s+(?:instructions?|rules?|prompts?|directives?|text)\s+"
        r"(?:is|are|was|were|has|have|should|must|no\s+longer|do(?:es)?)\b[^.\n]{0,30}\b(?:void|invalid|obsolete|cancel|outdated|"
        r"over|false|wrong|test|apply|ignored|disregarded|fake|irrelevant|superseded|replaced|revoked)",
        # German, Spanish, French, Italian, Portuguese, Dutch, Polish; accents are folded away.
        r"\b(?:ignorier\w*|vergiss|vergesst|vergessen\s+sie|missachte\w*|beachte\w*)\b[^.!?\n]{0,50}"
        r"\b(?:anweisung\w*|vorgaben?|regeln|befehle?|instruktion\w*|aufgaben?|bisher\w*|vorherig\w*|obig\w*|zuvor|davor|gesagt\w*|richtlinien)\b",
        r"\b(?:ignor[ae]r?|olvid[ae]\w*|omit[ae]|descarta|desobedece|no\s+sigas)\b[^.!?\n]{0,50}"
        r"\b(?:instruccion\w*|reglas|ordenes|anterior\w*|previ[oa]s|directrices|indicaciones|antes)\b",
        r"\b(?:ignor(?:e[rz]?|ons)|oubli(?:e[rz]?|ons)|ne\s+ten(?:ez|iens)\s+pas\s+compte)\b[^.!?\n]{0,50}"
        r"\b(?:instructions?|consignes?|regles|ordres|precedent\w*|ci-dessus|avant|directives)\b",
        r"\b(?:ignora\w*|dimentica\w*)\b[^.!?\n]{0,50}\b(?:istruzion\w*|regole|precedent\w*|ordini|sopra|prima)\b",
        r"\b(?:ignor[ae]\w*|esque[cç]a\w*)\b[^.!?\n]{0,50}\b(?:instruc\w*|regras|anterior\w*|ordens|antes)\b",
        r"\b(?:negeer|vergeet)\b[^.!?\n]{0,50}\b(?:instructies|regels|vorige|hierboven|eerdere|opdrachten)\b",
        r"\b(?:zignoruj|zapomnij|pomin)\b[^.!?\n]{0,50}\b(?:instrukcj\w*|poprzedni\w*|polecen\w*|powyzej)\b",
        r"(?:忽略|无视|忘记|忘掉|不要理会)[^。！？\n]{0,20}(?:指令|指示|提示|规则|内容|命令|说明)",
        r"(?:指示|命令|ルール|指令|プロンプト)[^。！？\n]{0,12}(?:無視|忘れ)",
    ),
    "leak": (
        rf"\b{_SHOW}{_GAP}(?:\w+{_GAP}){{0,4}}(?:your|the){_GAP}(?:\w+{_GAP}){{0,3}}{_HIDDEN}{_GAP}(?:\w+{_GAP}){{0,2}}"
        r"(?:prompts?|instructions?|message|rules|guidelines|configuration|directives?)\b",
        rf"\b(?:what|which)(?:'?s|\s+is|\s+are|\s+was|\s+were){_GAP}(?:\w+{_GAP}){{0,2}}your{_GAP}(?:\w+{_GAP}){{0,2}}"
        rf"(?:{_HIDDEN}{_GAP}(?:\w+{_GAP}){{0,2}}(?:prompts?|instructions?|message|rules|guidelines|directives?)|"
        r"(?:prompt|instructions|secret|passcode|password|access\s+code|secret\s+key|directives?))\b",
        rf"\b{_SHOW}{_GAP}(?:\w+{_GAP}){{0,3}}(?:everything|all|the\s+(?:text|words|content|sentences?|lines?|instructions?))"
        r"[^.!?\n]{0,20}\b(?:above|before\s+this|preceding)\b",
        rf"\b{_SHOW}{_GAP}(?:\w+{_GAP}){{0,3}}your{_GAP}(?:\w+{_GAP}){{0,2}}(?:instructions?|prompts?|directives?|passwords?|secret|"
        r"passcode|system\s+message|guidelines?)\b",
        rf"\b{_SHOW}{_GAP}(?:\w+{_GAP}){{0,3}}the{_GAP}(?:secret|hidden|confidential)(?:{_GAP}\w+)?{_GAP}?"
        r"(?:password|passcode|key|code|word|phrase|instructions?|prompt)?\b",
        r"\byou\s+are\s+(?:chatgpt|a\s+large\s+language\s+model)[^\n]{0,40}\"?\s*(?:put|place)\s+(?:them|it)\s+in\s+a\s+(?:txt\s+)?code\s?block",
    ),
    "persona": (
        r"\bdo\s+anything\s+now\b", r"\b(?:act|behave|respond|answer|reply|speak|pretend|role-?play|you\s+are|as|called|named)\b[^.\n]{0,30}\bdan\b[^.\n]{0,3}",
        r"\b(?:developer|debug|god|admin|root|sudo|maintenance|jailbreak|jailbroken|unrestricted|evil|dan|no-?filter|unfiltered|uncensored|opposite|dev)"
        r"\s+mode\s+(?:is\s+)?(?:enabled|activated|on|active|engaged|unlocked|output|now)\b",
        r"\b(?:enter(?:ing)?|enable|activate|switch\s+(?:in)?to|turn\s+on|engage|go\s+into|you\s+are\s+(?:now\s+)?in)\s+(?:\w+\s+){0,2}"
        r"(?:developer|debug|god|admin|root|sudo|maintenance|jailbreak|unrestricted|evil|dan|no-?filter|unfiltered|uncensored)\s+mode\b",
        r"\b(?:you|it|who|that|ai|he|she|they|bot|model|assistant|character|chatbot|and)\b[^.!?\n]{0,40}\b(?:no|without(?:\s+any)?|free\s+(?:of|from)(?:\s+all|\s+any)?|"
        r"not\s+bound\s+by(?:\s+any)?|beyond|lacks?(?:\s+any|\s+all)?|has\s+no|have\s+no|bypass(?:es)?)\s+(?:\w+[\s,]+){0,4}"
        r"(?:restrictions?|filters?|guidelines|limitations?|censorship|ethical|ethics|morals?|morality|constraints?|boundaries|content\s+polic(?:y|ies)|safeguards?)\b",
        r"\b(?:amoral|unfiltered|uncensored|unethical|unrestricted|jailbroken|unaligned|immoral)\b[^.\n]{0,40}\b(?:ai|assistant|chat\s?bot|bot|model|character|response|responses|answers?|persona|llm|gpt)\b",
        r"\bstay\s+in\s+character\b", r"\bbroken?\s+free\s+(?:of|from)\b[^.\n]{0,40}\b(?:ai|confines|typical|chains|restrictions?|rules)\b",
        r"\b(?:never|cannot|can't|must\s+not|won't|don't|do\s+not|not)\s+(?:ever\s+)?(?:refuse|decline|say\s+(?:that\s+)?(?:you|it)\s+(?:can't|cannot|are\s+sorry)|apologi[sz]e|say\s+no)\b",
        r"\bhypothetical\s+response\b", r"\bopposite\s+of\s+(?:what|your)\b[^.\n]{0,30}\b(?:rules|instructions|would|programm)",
    ),
    "addressed": (
        rf"\b(?:attention|dear|note|message|notice|instructions?|important|hey|hello|hi|warning|reminder|memo)[\s:,!-]{{1,4}}(?:(?:to|for|all|any|the|every)\s+){{0,3}}{_MACHINE}\b",
        rf"\bif\s+you(?:'re|\s+are)\s+(?:an?\s+|the\s+)?(?:\w+\s+)?{_MACHINE}\b",
        rf"\b{_MACHINE}s?\s*,?\s*(?:that\s+(?:is|are)\s+|who\s+(?:is|are)\s+)?(?:reading|processing|summari[sz]ing|evaluating|handling|scanning|parsing|analy[sz]ing|reviewing|that\s+reads|which\s+reads)\b",
        r"\b(?:do\s+not|don'?t|without|never)\s+(?:tell(?:ing)?|mention(?:ing)?|inform(?:ing)?|reveal(?:ing)?|notify(?:ing)?|let(?:ting)?)\s+(?:this\s+|it\s+|that\s+|anything\s+)?(?:to\s+)?the\s+(?:user|human|customer|reader)\b",
        r"\b(?:when|while|before|after|once)\s+(?:you\s+)?(?:are\s+|you're\s+)?(?:asked|answer(?:ing)?|respond(?:ing)?|summari[sz](?:e|ing)|repl(?:y|ying))\b[^.\n]{0,60}\b(?:you\s+must|you\s+should|always|instead|also\s+(?:say|add|include)|first\s+(?:call|send))\b",
        r"\b(?:call|invoke|use|run|execute)\s+(?:the\s+)?(?:tool|function|command|api)\b[^.\n]{0,60}\b(?:with|to\s+(?:send|delete|transfer|export|forward))\b",
        r"\b(?:send|forward|email|post|upload|exfiltrate|transmit|leak)\s+(?:\w+\s+){0,6}(?:to|at)\s+(?:https?://|[\w.+-]{1,40}@|attacker)",
    ),
    "role_marker": (
        r"<\|(?:im_start|im_end|im_sep|system|user|assistant|endoftext|endofprompt|start_header_id|end_header_id|eot_id|begin_of_text|end|start)\|>",
        r"\[/?inst\]|<</?sys>>|<(?:start|end)_of_turn>|<\s*/?\s*(?:system|sys|assistant|system_?prompt|system_?message|instructions?|prompt|user_?input|developer)\s*>",
        r"(?:^|\n)\s*(?:#{1,6}|\*{2,3}|={2,}|-{2,}|\[|\{)\s*(?:system|new\s+instructions?|instructions?|admin|developer|user|assistant|human|override)(?:\s+(?:prompt|message|instructions?|override|note|update|command))?\s*(?:\]|\}|\*{2,3})?\s*:",
        r"(?:^|\n)\s*(?:system|assistant|developer|admin(?:istrator)?)\s*(?:message|prompt|note|override|instructions?|command)?\s*:\s",
        r"\[(?:system|admin|developer|override|important|priority)(?:\s+\w+){0,3}\]",
        r"\b(?:end|begin|start|stop)\s+(?:of\s+)?(?:the\s+)?(?:system\s+)?(?:prompt|instructions?|input|old\s+instructions?|user\s+input|context)\b\s*[\]>%*=#-]*\s*\n",
        r"<(?:important|secret|hidden|system|instruction|information)>",
    ),
    "command": (
        r"\b(?:from\s+now\s+on|henceforth|going\s+forward)\b", r"\byou\s+(?:must|will|shall|have\s+to|need\s+to|are\s+required\s+to|should)\b",
        r"\b(?:only|just|always)\s+(?:respond|answer|reply|say|output|print|write)\b", r"\b(?:respond|answer|reply)\s+(?:only\s+)?with\b",
        r"\b(?:pretend|imagine|act\s+as|roleplay|role\s+play|simulate)\b", r"\byou\s+are\s+(?:now|no\s+longer|going\s+to)\b",
        r"\b(?:instead|nothing\s+else|under\s+no\s+circumstances|at\s+all\s+costs|no\s+matter\s+what|regardless\s+of)\b",
        r"\b(?:access|permission)\s+granted\b", r"\b(?:step\s+by\s+step|in\s+detail|detailed)\b",
    ),
}  # fmt: skip
FAMILIES = tuple(_PATTERNS)
"""What `signals` looks for; `command` alone is in many harmless prompts and counts only by its density."""


@dataclass(frozen=True, slots=True)
class Signal:
    """Characters `start` to `end` of the folded text bear the mark of this family."""

    family: str
    start: int
    end: int


class Signals:
    def __init__(self) -> None:
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        self._patterns: list[tuple[str, Any]] = [
            (family, re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), options))
            for family, patterns in _PATTERNS.items()
        ]

    def find(self, folded: str) -> list[Signal]:
        """In the order of the families, then of the text."""
        text = folded.encode("utf-8", "replace").decode() if not folded.isascii() else folded
        return [
            Signal(family, match.start(), match.end())
            for family, pattern in self._patterns
            for match in islice(pattern.finditer(text), _MOST)
        ]


def rules_version() -> str:
    """Changes with the patterns."""
    return hashlib.sha256(repr(_PATTERNS).encode()).hexdigest()[:8]
