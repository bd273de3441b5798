"""What a module that is compiled may not hold: see docs/decisions/0019."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]
COMPILED = BUILD["targets"]["wheel"]["hooks"]["custom"]["modules"]
LETS_OTHERS_RUN = (ast.Await, ast.Yield, ast.YieldFrom, ast.AsyncFor, ast.AsyncWith)


def leaks(source: str) -> list[int]:
    """The lines on which a coroutine may be suspended while it handles an exception."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.AsyncWith):  # waits for its end in a handler of its own
            found.add(node.lineno)
        blocks: list[ast.stmt] = []
        if isinstance(node, ast.Try):
            blocks += node.finalbody
            for handler in node.handlers:
                blocks += handler.body
        found.update(part.lineno for block in blocks for part in ast.walk(block) if isinstance(part, LETS_OTHERS_RUN))
    return sorted(found)


def lost(source: str) -> list[str]:
    """Values that a class gives what it derives from one that is not compiled, like an error its status: they are lost."""
    return [
        f"{node.name}.{ast.unparse(part)}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} - {"Protocol", "NamedTuple"}
        for part in node.body
        if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) != "__slots__"
    ]


@pytest.mark.parametrize("module", COMPILED)
def test_no_class_gives_a_derived_one_its_values(module: str) -> None:
    assert lost((ROOT / module).read_text("utf-8")) == []


def test_such_a_value_is_seen() -> None:
    assert lost("class Gone(Exception):\n status = 410\n") == ["Gone.status = 410"]


def closed(module: str) -> set[str]:
    """The classes that nothing interpreted may derive from."""
    return {
        node.name
        for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8")))
        if isinstance(node, ast.ClassDef)
        and not node.bases
        and "mypyc_attr(allow_interpreted_subclasses=True)" not in map(ast.unparse, node.decorator_list)
    }


def test_what_an_interpreted_class_derives_from_says_so() -> None:
    for path in (ROOT / "gateway").rglob("*.py"):
        if str(path.relative_to(ROOT)) in COMPILED:
            continue
        bases: set[str] = set()
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases.update(map(ast.unparse, node.bases))
            elif (
                isinstance(node, ast.ImportFrom)
                and (module := f"{(node.module or '').replace('.', '/')}.py") in COMPILED
            ):
                imported.update({alias.name for alias in node.names} & closed(module))
        assert not bases & imported, path


def looked_up(source: str) -> list[str]:
    """Constants that are not Final: compiled code looks into a dict for each use of them."""
    return [
        part.targets[0].id
        for part in ast.parse(source).body
        if isinstance(part, ast.Assign) and isinstance(part.targets[0], ast.Name) and part.targets[0].id.isupper()
    ]


@pytest.mark.parametrize("module", COMPILED)
def test_constants_are_final(module: str) -> None:
    stretched = {"_GATHER", "_PACE"} if module == "gateway/records/journal.py" else set()
    assert set(looked_up((ROOT / module).read_text("utf-8"))) == stretched


def begun_wrongly(source: str) -> list[str]:
    """Classes that can be copied, or derive from one that can, and whose `__init__` mypyc leaves out (2.4)."""
    copied: set[str] = set()
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef):
            said = " ".join(map(ast.unparse, node.decorator_list))
            if "serializable=True" in said or copied & set(map(ast.unparse, node.bases)):
                copied.add(node.name)
                if "allow_interpreted_subclasses=True" not in said:
                    found.append(node.name)
    return found


@pytest.mark.parametrize("module", COMPILED)
def test_what_can_be_copied_is_begun_as_well(module: str) -> None:
    assert begun_wrongly((ROOT / module).read_text("utf-8")) == []


def test_such_a_class_is_seen() -> None:
    both = "@mypyc_attr(serializable=True, allow_interpreted_subclasses=True)"
    assert begun_wrongly("@mypyc_attr(serializable=True)\nclass A:\n pass\n") == ["A"]
    assert begun_wrongly(f"{both}\nclass A:\n pass\nclass B(A):\n pass\n") == ["B"]
    assert begun_wrongly(f"{both}\nclass A:\n pass\n{both}\nclass B(A):\n pass\n") == []


@pytest.mark.parametrize("module", COMPILED)
def test_no_coroutine_waits_while_it_handles_an_exception(module: str) -> None:
    assert leaks((ROOT / module).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "body",
    [
        "try:\n  x()\n except ValueError:\n  await y()",
        "try:\n  x()\n finally:\n  if z:\n   await y()",
        "try:\n  x()\n except ValueError:\n  yield 1",
        "async with x:\n  y()",
        "try:\n  x()\n finally:\n  async for z in y:\n   pass",
    ],
)
def test_each_way_to_do_so_is_seen(body: str) -> None:
    assert leaks(f"async def f():\n {body}\n")


def test_waiting_elsewhere_is_free() -> None:
    assert leaks("async def f():\n try:\n  await x()\n except ValueError:\n  y()\n await z()\n") == []
