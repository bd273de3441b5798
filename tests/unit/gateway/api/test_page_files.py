"""The page's built files are those of its sources: who changes one runs `make web`, and commits both."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).parents[4]
WEB, BUILT = ROOT / "web", ROOT / "gateway" / "web"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_built_files_are_made_of_these_sources() -> None:
    made_of = json.loads((BUILT / "built.json").read_text())["sources"]
    files = [WEB / name for name in ("build.mjs", "package.json", "package-lock.json", "tsconfig.json")]
    files += [path for path in (WEB / "src").rglob("*") if path.is_file()]
    assert made_of == {path.relative_to(WEB).as_posix(): digest(path) for path in files}, "run `make web`"


def test_nobody_has_changed_them_by_hand() -> None:
    made = json.loads((BUILT / "built.json").read_text())["built"]
    there = [path for path in BUILT.rglob("*") if path.is_file() and path.name != "built.json"]
    assert made == {path.relative_to(BUILT).as_posix(): digest(path) for path in there}, "run `make web`"


def test_their_names_have_their_hash() -> None:
    for path in (BUILT / "assets").iterdir():
        if path.suffix != ".txt":
            assert path.stem.rpartition("-")[2] == digest(path)[:12]
            assert path.name in (BUILT / "index.html").read_text()
            assert path.name in (BUILT / "widget.html").read_text()


def test_they_name_nobody_elses_address_and_no_inline_code() -> None:
    for name in ("index.html", "widget.html"):
        html = (BUILT / name).read_text()
        assert not re.search(r"https?://|\bstyle=|\bon\w+=|<style", html)
        assert html.count("<script") == html.count("src=") + html.count('type="application/json"')
    (style,) = (BUILT / "assets").glob("*.css")
    assert not re.search(r"url\(|@import", style.read_text())


def test_they_stay_small() -> None:
    import gzip

    sizes = {path.name: len(gzip.compress(path.read_bytes())) for path in (BUILT / "assets").iterdir()}
    assert sum(size for name, size in sizes.items() if name.endswith((".js", ".css"))) < 64_000
    assert (BUILT / "widget.js").stat().st_size < 6_000


def test_whatever_is_in_them_has_its_licence() -> None:
    told = (BUILT / "assets" / "LICENSES.txt").read_text()
    for name in json.loads((WEB / "package.json").read_text())["dependencies"]:
        version = json.loads((WEB / "package-lock.json").read_text())["packages"][f"node_modules/{name}"]["version"]
        assert f"{name} {version} (" in told
    assert "Apache License" in told
    assert told.count("Permission is hereby granted") >= 3
