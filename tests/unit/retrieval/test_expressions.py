"""Milvus' filter language: what a caller wrote stays a literal, whatever the clause around it is made into."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from retrieval.expressions import any_of, holds, in_arrays, quoted


@given(
    texts=st.lists(
        st.one_of(st.text(), st.text(alphabet='" \\\\%|a='), st.just('readers like "%|public|%"')), max_size=4
    )
)
@example(texts=["readers like ", "%|public|%", "readers like \\"])
def test_token_sets_are_looked_up_in_arrays_and_literals_stay_as_they_are(texts: list[str]) -> None:
    def clause(readers: str, attributes: str) -> str:
        named = f"document_id in {any_of(texts)}" + "".join(f" and attributes[{quoted(text)}] > 1" for text in texts)
        return f"{named} and ({readers} or {attributes})"

    given = clause(holds("readers", "public"), holds("attribute_tokens", "0a1b"))

    assert in_arrays(given) == clause('array_contains(readers, "public")', 'array_contains(attribute_tokens, "0a1b")')
