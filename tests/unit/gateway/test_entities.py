"""What join keys are made of, and whose users they are."""

from __future__ import annotations

import pytest

from gateway.entities import EVERYBODY, EntityTemplate, user_entities

parse = EntityTemplate.parse


@pytest.mark.parametrize(
    ("text", "known", "value"),
    [
        ("{user}", {"user": "ada"}, "ada"),
        ("{tenant}/{user}", {"tenant": "a", "user": "ada"}, "a/ada"),
        ("p-{metadata.product_id}", {"metadata.product_id": "5"}, "p-5"),
        ("{tenant}:{header.x-session}", {"tenant": "a", "header.x-session": "s"}, "a:s"),
        ("{tenant}/{user}", {"tenant": "a"}, None),
        ("{input.store}", {"input.store": ""}, None),
        ("{user}/{metadata.room}", {"user": "a", "metadata.room": "b/c"}, "a/b/c"),
        ("{user}/{metadata.room}", {"user": "a/b", "metadata.room": "c"}, None),  # who would be the one above
        ("{tenant}/{user}", {"tenant": "a", "user": "b/c"}, "a/b/c"),
    ],
)
def test_a_key_is_made_of_what_is_known_of_the_call(text: str, known: dict[str, str], value: str | None) -> None:
    assert parse(text).fill(known.get) == value


@pytest.mark.parametrize(
    "text",
    ["", "user", "{}", "{users}", "{user.name}", "{header}", "{header.a b}", "{{user}}", "{user", "{user}{metadata.p}"],
)
def test_what_is_no_template_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"nothing of a call|made of in braces|a sign between"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("{tenant}/{user}", True),
        ("{tenant}:{user}", True),
        ("{tenant}", True),
        ("{user}", False),
        ("{tenant}{user}", False),
        ("{tenant}-{user}", False),  # tenant `a-b` and user `c` would be tenant `a` and user `b-c`
        ("{tenant}_{user}", False),
        ("{user}/{tenant}", False),
        ("x{tenant}/{user}", False),
    ],
)
def test_tenants_are_apart_only_where_no_two_can_make_the_same_key(text: str, apart: bool) -> None:
    assert parse(text).of_tenant is apart


def test_whose_entities_a_user_is() -> None:
    mappings = [
        {"user_id": parse("{tenant}/{user}"), "product_id": parse("{metadata.p}")},
        {"member": parse("{user}"), "session": parse("{user}/{header.s}")},
    ]
    mine = user_entities(mappings, "a")
    assert mine.of("a", "ada", everywhere=False) == [{"member": "ada"}, {"user_id": "a/ada"}]
    assert mine.of("b", "ada", everywhere=False) == [{"user_id": "b/ada"}]
    assert mine.of("b", "ada", everywhere=True) == [{"user_id": "b/ada"}]
    assert not mine.shared
    everybodys = user_entities(mappings, EVERYBODY)
    assert everybodys.of("b", "ada", everywhere=False) == [{"user_id": "b/ada"}]
    assert everybodys.of("b", "ada", everywhere=True) == [{"member": "ada"}, {"user_id": "b/ada"}]
    assert everybodys.shared
