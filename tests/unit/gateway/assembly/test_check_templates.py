"""What models ask of templates is there, and what templates ask of models too: else the start is stopped."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.assembly.prompts import TemplateTokens, check_templates, shelf_of
from gateway.config.faults import ConfigError
from gateway.config.loading import load
from gateway.prompts.stored import StoredTemplates
from gateway.records.database import Database
from gateway.records.prompts import PromptStore

TEXT = """\
providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1, api_key: "${KEY}"}}
retrieval: {collections: {office: {}, staff: {}}}
models:
  m:
    targets: [mock/x]
    prompt: %s
    retrieval: {collection: %s}
"""


def check(tmp_path: Path, prompt: str, collection: str) -> TemplateTokens:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "t@1.yaml").write_text(
        "collections: [office]\nlabels: [production]\nmax_prompt_tokens: 700\ndirect: true\nmessages: [conversation]\n"
    )
    (tmp_path / "gateway.yaml").write_text(TEXT % (prompt, collection))
    loaded = load(tmp_path / "gateway.yaml", {"KEY": "k"})
    database = Database(f"sqlite:///{tmp_path / 'records.db'}")
    shelf = shelf_of(loaded.configuration, StoredTemplates(PromptStore(database)))
    database.close()
    check_templates(loaded, shelf)
    return TemplateTokens(loaded.configuration, shelf)


@pytest.mark.parametrize("prompt", ["t@1", "t@production", "t@latest"])
def test_what_fits_passes_and_its_tokens_are_reckoned(tmp_path: Path, prompt: str) -> None:
    tokens = check(tmp_path, prompt, "office")
    assert (tokens.get("m"), tokens.get("other")) == (700, None)
    assert [tokens.named(*each, "a") for each in (("t", None), ("t@1", None), ("t", "9"), ("u", None))] == [
        700,
        700,
        0,
        0,
    ]


@pytest.mark.parametrize(
    ("prompt", "collection", "fault"),
    [
        (
            "t@2",
            "office",
            "gateway.yaml:6:5: models.m.prompt: is neither in the prompts folder nor in the record store; allowed: t@1; "
            "did you mean `t@1`?",
        ),
        (
            "t@production",
            "staff",
            "gateway.yaml:7:5: models.m.retrieval: searches `staff`; its template t@production is for the collection office",
        ),
    ],
)
def test_what_does_not_is_a_fault_with_its_place(tmp_path: Path, prompt: str, collection: str, fault: str) -> None:
    with pytest.raises(ConfigError) as raised:
        check(tmp_path, prompt, collection)
    assert str(raised.value) == fault
