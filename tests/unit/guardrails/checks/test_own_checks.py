"""Checks of the operator's own: by an entry point in Python, and behind HTTP."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from guardrails.assembly import build_check
from guardrails.outside import Outside, Post
from guardrails.text_checks import CheckUnavailable, Context, TextCheck
from guardrails.verdicts import Finding

DOCUMENTED = Path(__file__).parents[4] / "docs" / "guardrails.md"
INPUT = Context("input", "What?")


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with the check that the documentation shows; its name."""
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text("utf-8"), re.DOTALL)
    (tmp_path / "own_documented_checks.py").write_text(example, "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_documented_checks", raising=False)
    return "own_documented_checks"


async def test_the_documented_check_is_one(own: str) -> None:
    check = build_check("python", {"entry_point": f"{own}:TicketNumbers", "settings": {"prefix": "T-"}})
    assert isinstance(check, TextCheck)
    assert (check.name, check.default_action, check.cost) == ("tickets", "flag", "cheap")
    assert await check.judge(["Ask T-1", ""], INPUT) == [(Finding("ticket", 4, 6, 1.0),), ()]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("name = 'a b'", "a check's name is 1 to 64 letters"),
        ("cost = 'dear'", "`cost` is one of cheap, local, remote"),
        ("version = 2", "does not make a check"),
        ("judge = None; del judge", "does not make a check"),
    ],
)
def test_what_has_not_the_form_of_a_check_is_none(own: str, line: str, fault: str) -> None:
    module = sys.modules.get(own) or __import__(own)
    body: dict[str, Any] = dict(vars(module.TicketNumbers))
    exec(line, {}, body) if not line.startswith("judge") else body.pop("judge")
    module.Changed = type("Changed", (), body)  # type: ignore[attr-defined]  # the module is this test's own
    with pytest.raises(ValueError, match=fault):
        build_check("python", {"entry_point": f"{own}:Changed", "settings": {}})


def webhook(answer: Callable[[Mapping[str, Any]], Any]) -> TextCheck:
    def post(url: str, headers: Mapping[str, str], timeout: float) -> Post:
        assert (url, headers, timeout) == ("http://h/j", {"x": "y"}, 2.0)

        async def posted(body: Mapping[str, Any]) -> Any:
            return answer(body)

        return posted

    def never(_: str) -> Any:
        raise AssertionError("no model is asked")

    settings = {"url": "http://h/j", "headers": {"x": "y"}, "timeout": 2.0, "name": "hook", "version": "3"}
    check = build_check("webhook", settings, Outside(never, never, post))
    assert isinstance(check, TextCheck)
    assert (check.name, check.version, check.cost) == ("hook", "3", "remote")
    return check


async def test_a_webhook_is_asked_and_answers_as_documented() -> None:
    asked: list[Mapping[str, Any]] = []

    def answer(body: Mapping[str, Any]) -> Any:
        asked.append(body)
        return {"findings": [[{"kind": "a.b", "start": 1, "end": 2, "score": 3}, {"kind": "c"}], []]}

    context = Context("tools", "What?", ("a passage",), "ours", "call", "look")
    found = await webhook(answer).judge(["text", ""], context)
    assert found == [(Finding("a.b", 1, 2, 1.0), Finding("c", 0, 4, 1.0)), ()]
    told = {"road": "tools", "part": "call", "tool": "look", "question": "What?"}
    assert asked == [{"texts": ["text", ""], "context": told}]


@pytest.mark.parametrize(
    "answer",
    [
        None, [], {}, {"findings": []}, {"findings": [[], []]}, {"findings": [{}]}, {"findings": [["x"]]},
        {"findings": [[{}]]}, {"findings": [[{"kind": "the words themselves"}]]}, {"findings": [[{"kind": "k" * 65}]]},
        {"findings": [[{"kind": "k", "start": -1}]]}, {"findings": [[{"kind": "k", "end": 5}]]},
        {"findings": [[{"kind": "k", "start": 3, "end": 2}]]}, {"findings": [[{"kind": "k", "start": True}]]},
        {"findings": [[{"kind": "k", "score": "high"}]]}, {"findings": [[{"kind": "k", "score": float("nan")}]]},
    ],
)  # fmt: skip
async def test_an_answer_that_is_not_as_documented_is_none(answer: Any) -> None:
    with pytest.raises(CheckUnavailable):
        await webhook(lambda _: answer).judge(["text"], INPUT)
