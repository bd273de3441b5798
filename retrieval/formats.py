"""One kind of file after another to Markdown, by a well-kept parser for each. Runs in the parser's process only.

What is not what its name says, is locked by a password, or unpacks to more than it should is refused beforehand.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_MOST_UNPACKED = 200_000_000  # bytes
_MOST_PARTS = 5_000
_MOST_RATIO = 200  # of a part that unpacks to more than a megabyte
_MOST_ROWS = 50_000
_MOST_CELLS = 2_000_000
_MOST_PAGES = 5_000
_MOST_TEXT = 20_000_000  # characters
_BLANKS = re.compile(r"\n{3,}")
_DOCTYPE = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_UNSEEN = ("script", "style", "noscript", "template", "svg", "iframe", "object", "head", "nav", "form")


class Refused(Exception):
    """The file can't be parsed; the message says why."""


def to_markdown(file: Path) -> tuple[str, str]:
    """The file's text as Markdown, and its own title or "". Raises Refused, or whatever a parser raises."""
    suffix = file.suffix.lower()
    text, title = _BY_SUFFIX[suffix](file)
    if len(text) > _MOST_TEXT:
        raise Refused(f"holds more than {_MOST_TEXT} characters of text")
    text = _BLANKS.sub("\n\n", text.replace("\0", "")).strip()
    return text, " ".join(title.split())[:300]


def _html(file: Path) -> tuple[str, str]:
    return _from_html(_text(file))


def _from_html(source: str) -> tuple[str, str]:
    from bs4 import BeautifulSoup, Comment
    from markdownify import MarkdownConverter

    soup = BeautifulSoup(source, "lxml")
    title = soup.title.get_text() if soup.title else ""
    for unseen in soup(list(_UNSEEN)):
        unseen.decompose()
    for hidden in soup.select("[hidden], [aria-hidden=true]"):
        hidden.decompose()
    for comment in soup.find_all(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    heading = soup.find("h1")
    converter = MarkdownConverter(heading_style="ATX", strip=["a", "img"], bullets="-")
    return str(converter.convert_soup(soup)), title or (heading.get_text() if heading else "")


def _pdf(file: Path) -> tuple[str, str]:
    import pypdfium2  # type: ignore[import-untyped]  # it has no types

    with file.open("rb") as opened:
        if b"%PDF-" not in opened.read(1024):
            raise Refused("is not a PDF, whatever its name says")
    try:
        document = pypdfium2.PdfDocument(file)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Refused("is locked by a password") from None
        raise Refused("is a broken PDF") from None
    if len(document) > _MOST_PAGES:
        raise Refused(f"has more than {_MOST_PAGES} pages")
    pages = []
    length = 0
    for number, page in enumerate(document, 1):
        told = page.get_textpage().get_text_bounded().replace("\r\n", "\n").replace("\ufffe", "").strip()
        length += len(told)
        if length > _MOST_TEXT:
            raise Refused(f"holds more than {_MOST_TEXT} characters of text")
        if told:
            pages.append(f"## Page {number}\n\n{_escaped(told)}")
    if not pages:
        raise Refused("holds no text: its pages are images")
    return "\n\n".join(pages), document.get_metadata_dict().get("Title", "")


def _docx(file: Path) -> tuple[str, str]:
    import mammoth  # type: ignore[import-untyped]  # it has no types

    _check_package(file, "word/document.xml")
    with file.open("rb") as opened:
        html = mammoth.convert_to_html(
            opened, convert_image=mammoth.images.img_element(lambda image: {"src": ""})
        ).value
    return _from_html(html)


def _pptx(file: Path) -> tuple[str, str]:
    from pptx import Presentation

    _check_package(file, "ppt/presentation.xml")
    presentation = Presentation(str(file))
    slides = []
    for number, slide in enumerate(presentation.slides, 1):
        named = slide.shapes.title
        head = " ".join(named.text_frame.text.split()) if named is not None else ""
        parts = [f"## {head or f'Slide {number}'}"]
        for shape in slide.shapes:
            if shape.has_text_frame and (named is None or shape.shape_id != named.shape_id):
                parts.append(_escaped(shape.text_frame.text))
            elif getattr(shape, "has_table", False):
                rows = [[cell.text for cell in row.cells] for row in shape.table.rows]
                parts.append(_rows(rows))
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            parts.append(_escaped(slide.notes_slide.notes_text_frame.text))
        slides.append("\n\n".join(part for part in parts if part.strip()))
    return "\n\n".join(slides), presentation.core_properties.title or ""


def _xlsx(file: Path) -> tuple[str, str]:
    from openpyxl import load_workbook

    _check_package(file, "xl/workbook.xml")
    workbook = load_workbook(file, read_only=True, data_only=True, keep_links=False)
    sheets = []
    for sheet in workbook.worksheets:
        rows = ([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
        if told := _rows(rows):
            sheets.append(f"## {sheet.title}\n\n{told}")
    return "\n\n".join(sheets), workbook.properties.title or ""


def _csv(file: Path) -> tuple[str, str]:
    text = _text(file)
    csv.field_size_limit(1_000_000)
    try:
        dialect: Any = csv.Sniffer().sniff(text[:10_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        return _rows(csv.reader(io.StringIO(text), dialect)), ""
    except csv.Error as error:
        raise Refused(f"is not CSV: {error}") from None


def _json(file: Path) -> tuple[str, str]:
    try:
        return _told(json.loads(_text(file)), 2), ""
    except ValueError as error:
        raise Refused(f"is not JSON: {error}") from None


def _jsonl(file: Path) -> tuple[str, str]:
    records = []
    for number, line in enumerate(_text(file).splitlines(), 1):
        if line.strip():
            try:
                records.append(_told(json.loads(line), 2))
            except ValueError:
                raise Refused(f"is not JSON in line {number}") from None
    return "\n\n".join(records), ""


_BY_SUFFIX: dict[str, Callable[[Path], tuple[str, str]]] = {
    ".html": _html, ".htm": _html, ".pdf": _pdf, ".docx": _docx, ".pptx": _pptx, ".xlsx": _xlsx, ".csv": _csv,
    ".json": _json, ".jsonl": _jsonl,
}  # fmt: skip


def _text(file: Path) -> str:
    data = file.read_bytes()
    if b"\0" in data[:4_096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise Refused("is not a text, whatever its name says")
    for encoding in ("utf-16",) if data.startswith((b"\xff\xfe", b"\xfe\xff")) else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise Refused("is neither UTF-8 nor Windows-1252")


def _check_package(file: Path, part: str) -> None:
    """An Office file as it should be: its main part there, nothing locked, no entity, and not much more inside than out."""
    with file.open("rb") as opened:
        if opened.read(8) == _OLE:
            raise Refused("is locked by a password, or is of an Office before 2007")
    try:
        package = zipfile.ZipFile(file)
    except zipfile.BadZipFile:
        raise Refused(f"is not a {file.suffix.lower()} file, whatever its name says") from None
    with package:
        infos = package.infolist()
        names = {info.filename for info in infos}
        if part not in names:
            raise Refused(f"is not a {file.suffix.lower()} file, whatever its name says")
        if any(name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) for name in names):
            raise Refused("holds names that lead out of it")
        if len(infos) > _MOST_PARTS or sum(info.file_size for info in infos) > _MOST_UNPACKED:
            raise Refused("unpacks to too much")
        for info in infos:
            if info.flag_bits & 1:
                raise Refused("is locked by a password")
            if info.file_size > 1_000_000 and info.file_size > _MOST_RATIO * max(info.compress_size, 1):
                raise Refused("unpacks to too much")
        for info in infos:
            if info.filename.endswith((".xml", ".rels")):
                with package.open(info) as opened:
                    if _DOCTYPE.search(opened.read(4_096)):
                        raise Refused("declares entities in its XML")


def _rows(rows: Iterable[Sequence[str]]) -> str:
    """A table's rows, each with the names of its columns, so that a row found alone says what it is."""
    lines: list[str] = []
    cells = 0
    header: list[str] | None = None
    for number, row in enumerate(rows):
        values = [" ".join(value.split()) for value in row]
        cells += len(values)
        if number > _MOST_ROWS or cells > _MOST_CELLS:
            raise Refused(f"has more than {_MOST_ROWS} rows or {_MOST_CELLS} cells in a table")
        if not any(values):
            continue
        if header is None:
            header = values
            continue
        named = (
            f"{header[place]}: {value}" if place < len(header) and header[place] else value
            for place, value in enumerate(values)
            if value
        )
        lines.append("- " + "; ".join(named))
    if header is not None and not lines:
        lines.append("- " + "; ".join(value for value in header if value))
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _told(value: Any, level: int) -> str:
    """JSON as lines of `name: value`, nested ones indented, which a search finds better than braces."""
    return "\n".join(_lines(value, 0)) if isinstance(value, dict | list) else str(value)


def _lines(value: Any, depth: int) -> Iterator[str]:
    if depth > 50:
        raise Refused("is nested too deeply")
    indent = "  " * depth
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(inner, dict | list):
                yield f"{indent}{name}:"
                yield from _lines(inner, depth + 1)
            else:
                yield f"{indent}{name}: {_scalar(inner)}"
    else:
        for inner in value:
            if isinstance(inner, dict | list):
                yield f"{indent}-"
                yield from _lines(inner, depth + 1)
            else:
                yield f"{indent}- {_scalar(inner)}"


def _scalar(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _escaped(text: str) -> str:
    """Words that stand at a line's begin like a heading are none: these files have their headings told apart."""
    return re.sub(r"^(#{1,6}\s)", r"\\\1", text, flags=re.MULTILINE)
