"""G4: files that are bombs, traps, locked or not what they say: each fails alone, in time, within its memory, with a
reason; and what is honest in the same folder is loaded."""

from __future__ import annotations

import asyncio
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import openpyxl
import psutil
import pytest
from pptx import Presentation

from retrieval.loading import Unreadable, find_files, load
from retrieval.parsing import Parser

SECONDS, MEMORY = 5.0, 512_000_000
CONTENT_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.'
    'wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" '
    'Target="word/document.xml"/></Relationships>'
)


def word(body: str, before: str = "", **parts: bytes) -> bytes:
    """A .docx with this body of WordprocessingML."""
    document = (
        f'<?xml version="1.0"?>{before}<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
        f"<w:body>{body}</w:body></w:document>"
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("[Content_Types].xml", CONTENT_TYPES)
        package.writestr("_rels/.rels", RELATIONS)
        package.writestr("word/document.xml", document)
        for name, content in parts.items():
            package.writestr(name.replace("__", "/"), content)
    return packed.getvalue()


def paragraph(text: str, style: str = "") -> str:
    properties = f'<w:pPr><w:pStyle w:val="{style}"/></w:pPr>' if style else ""
    return f"<w:p>{properties}<w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(stream: bytes, *, packed: bool = False, trailer: str = "") -> bytes:
    """A PDF of one page with this content stream."""
    content = zlib.compress(stream, 9) if packed else stream
    filters = b"/Filter /FlateDecode " if packed else b""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 300] /Contents 4 0 R "
        b"/Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< %s/Length %d >>\nstream\n%s\nendstream" % (filters, len(content), content),
    ]
    out, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = len(out)
    out += b"xref\n0 5\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"trailer\n<< /Size 5 /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (trailer.encode(), table)


def said(text: str) -> bytes:
    return f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode()


def sheet() -> bytes:
    workbook = openpyxl.Workbook()
    page = workbook.active
    assert page is not None
    page.title = "Prices"
    page.append(["fruit", "price"])
    page.append(["quince", 7])
    packed = io.BytesIO()
    workbook.save(packed)
    return packed.getvalue()


def slides() -> bytes:
    shown = Presentation()
    slide = shown.slides.add_slide(shown.slide_layouts[1])
    assert slide.shapes.title is not None
    slide.shapes.title.text = "Harvest"
    slide.placeholders[1].text_frame.text = "Quinces are picked in October."
    packed = io.BytesIO()
    shown.save(packed)
    return packed.getvalue()


HONEST: dict[str, tuple[Callable[[], bytes], str]] = {
    "a.html": (
        lambda: (
            b"<title>Fruit</title><script>evil()</script><h1>Fruit</h1><p>Quinces are <b>sour</b>.</p><p hidden>no</p>"
        ),
        "# Fruit\n\nQuinces are **sour**.",
    ),
    "a.pdf": (lambda: pdf(said("Quinces are sour.")), "## Page 1\n\nQuinces are sour."),
    "a.docx": (
        lambda: word(paragraph("Fruit", "Heading1") + paragraph("Quinces are sour.")),
        "# Fruit\n\nQuinces are sour.",
    ),
    "a.pptx": (slides, "## Harvest\n\nQuinces are picked in October."),
    "a.xlsx": (sheet, "## Prices\n\n- fruit: quince; price: 7"),
    "a.csv": (lambda: "fruit;price\nKüttigen quince;7\n".encode(), "- fruit: Küttigen quince; price: 7"),
    "a.json": (lambda: b'{"fruit": {"name": "quince", "sour": true}}', "fruit:\n  name: quince\n  sour: true"),
    "a.jsonl": (lambda: b'{"fruit": "quince"}\n\n{"fruit": "medlar"}\n', "fruit: quince\n\nfruit: medlar"),
}

ENTITIES = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
LAUGHS = "<!DOCTYPE x [" + "".join(f'<!ENTITY l{n + 1} "{f"&l{n};" * 10}">' for n in range(9)) + '<!ENTITY l0 "ha">]>'
LOCKED = f"/Encrypt << /Filter /Standard /V 1 /R 2 /O <{'41' * 32}> /U <{'42' * 32}> /P -4 >> /ID [<{'43' * 16}> <{'43' * 16}>]"


def zipped(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr(name, content)
    return packed.getvalue()


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "bomb.docx": (lambda: word("", word__media__huge=bytes(210_000_000)), "unpacks to too much"),
    "bomb.xlsx": (lambda: zipped("xl/workbook.xml", bytes(210_000_000)), "unpacks to too much"),
    "part.pptx": (lambda: zipped("ppt/presentation.xml", b"x"), "is broken"),
    "parts.docx": (lambda: word("", **{f"p{n}": b"" for n in range(6_000)}), "unpacks to too much"),
    "bomb.pdf": (lambda: pdf(said("x" * 1000) * 100_000, packed=True), "can't be parsed within|holds more than"),
    "xxe.docx": (lambda: word(paragraph("&b;"), ENTITIES), "declares entities in its XML"),
    "laughs.docx": (lambda: word(paragraph("&l9;"), LAUGHS), "declares entities in its XML"),
    "path.docx": (lambda: word(paragraph("text"), **{"..__..__etc__passwd": b"x"}), "holds names that lead out of it"),
    "locked.pdf": (lambda: pdf(said("secret"), trailer=LOCKED), "is locked by a password"),
    "locked.docx": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "is locked by a password"),
    "text.pdf": (lambda: b"This is no PDF.", "is not a PDF"),
    "image.docx": (lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 100, "is not a .docx file"),
    "sheet.docx": (sheet, "is not a .docx file"),
    "cut.docx": (lambda: word(paragraph("text"))[:-30], "is not a .docx file"),
    "broken.docx": (lambda: word("<w:p><w:r>"), "is broken"),
    "broken.pdf": (lambda: b"%PDF-1.4\n" + os.urandom(5_000), "is a broken PDF|is broken"),
    "empty.pdf": (lambda: b"", "is not a PDF"),
    "scan.pdf": (lambda: pdf(b"0 0 100 100 re f"), "holds no text"),
    "deep.json": (lambda: b"[" * 500_000, "is nested too deeply|is not JSON"),
    "deep.html": (lambda: b"<div>" * 300_000 + b"x", "nested too deeply|is broken|can't be parsed|holds no"),
    "wide.csv": (lambda: b"a,b\n" + b"x" * 2_000_000 + b",1\n", "is not CSV"),
    "rows.csv": (lambda: b"a\n" + b"1\n" * 60_000, "has more than"),
    "binary.json": (lambda: b"\0\1\2\3" * 100, "is not a text"),
}


@pytest.fixture(params=sorted(HONEST))
def honest(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    made, text = HONEST[request.param]
    (tmp_path / request.param).write_bytes(made())
    return tmp_path / request.param, text


async def test_an_honest_file_is_read(honest: tuple[Path, str]) -> None:
    file, text = honest
    assert (await Parser(seconds=30, memory=MEMORY).parse(file)).text == text


@pytest.mark.parametrize("name", sorted(HOSTILE))
async def test_a_hostile_file_fails_in_time_with_a_reason(name: str, tmp_path: Path) -> None:
    made, reason = HOSTILE[name]
    file = tmp_path / name
    file.write_bytes(made())
    before = set(psutil.Process().children())

    with pytest.raises(Unreadable, match=reason) as refused:
        parsed = await Parser(seconds=SECONDS, memory=MEMORY).parse(file)
        if not parsed.text:
            raise Unreadable("holds no text")

    assert "root:" not in str(refused.value)
    assert set(psutil.Process().children()) <= before, "no parser is left"
    assert [each.name for each in tmp_path.iterdir()] == [name], "nothing is unpacked"


async def test_a_parser_that_hangs_is_ended(tmp_path: Path) -> None:
    """A file that is never written to its end: the parser waits for it, and its time runs out."""
    os.mkfifo(tmp_path / "pipe.json")
    started = time.monotonic()

    with pytest.raises(Unreadable, match=r"can't be parsed within 0\.5 s"):
        await Parser(seconds=0.5, memory=MEMORY).parse(tmp_path / "pipe.json")

    assert time.monotonic() - started < 30
    assert not [child for child in psutil.Process().children() if "parse_worker" in " ".join(child.cmdline())]


async def test_a_parse_that_is_given_up_leaves_no_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    task = asyncio.create_task(Parser(seconds=60, memory=MEMORY).parse(tmp_path / "pipe.json"))

    def parsers() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if "parse_worker" in " ".join(child.cmdline())]

    async with asyncio.timeout(60):
        while not parsers():
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert parsers() == []


def test_a_gigabyte_is_refused_by_its_size_alone(tmp_path: Path) -> None:
    with (tmp_path / "huge.pdf").open("wb") as file:
        file.truncate(1_000_000_000)

    with pytest.raises(Unreadable, match="1000000000 bytes are too many"):
        load(tmp_path / "huge.pdf", "huge.pdf")


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "passwd.txt").symlink_to("/etc/passwd")
    (tmp_path / "docs" / "etc").symlink_to("/etc")

    assert list(find_files([tmp_path / "docs"])) == []


async def test_a_worker_sees_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    os.mkfifo(tmp_path / "pipe.json")
    task = asyncio.create_task(Parser(seconds=60, memory=MEMORY).parse(tmp_path / "pipe.json"))
    async with asyncio.timeout(60):
        while not (found := [c for c in psutil.Process().children() if "parse_worker" in " ".join(c.cmdline())]):
            await asyncio.sleep(0.01)
    environment = found[0].environ()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert "sk-canary" not in json.dumps(environment)
