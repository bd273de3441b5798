"""The table of docs/providers.md is what the code says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from click.testing import CliRunner

from gateway.cli import main
from gateway.config.providers import Extractive, LocalEmbeddings, Provider

DOCS = Path(__file__).parents[4] / "docs" / "providers.md"


def test_the_documented_table_is_current() -> None:
    told = CliRunner().invoke(main, ["providers"])
    assert told.exit_code == 0
    between = DOCS.read_text("utf-8").split("<!-- made by `rag-gateway providers` -->\n")[1].split("<!-- end -->")[0]
    assert between == told.output, "paste the output of `rag-gateway providers` between the two comments"


def test_every_kind_that_calls_a_model_elsewhere_has_its_row() -> None:
    union, _ = get_args(Provider)
    kinds = {get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(union)}
    kinds -= {get_args(kind.model_fields["kind"].annotation)[0] for kind in (Extractive, LocalEmbeddings)}
    rows = CliRunner().invoke(main, ["providers"]).output
    assert {kind for kind in kinds if f"| `{kind}` |" not in rows} == set()
