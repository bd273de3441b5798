"""What a configuration says of Feast is held against the repository's definitions: wrong names are faults at start."""

from __future__ import annotations

from pathlib import Path

import pytest

from features.definitions import Definitions, Feature, Service, View, to_json
from gateway.assembly.features import check_features
from gateway.config.faults import ConfigError
from gateway.config.loading import Loaded, load
from gateway.feature_service import repository_of

TIER = Feature("tier", "String", "buyers")
ORDERS = Feature("orders", "Int64", "buyers")
SECRET = Feature("allergies", "Array(String)", "health", sensitive=True)
LABELLED = Feature("salary", "Float64", "pay", sensitivity="internal")
PRICE = Feature("price", "Float64", "products")
DEFINITIONS = Definitions(
    "shop",
    {
        "shop": Service("shop", (TIER, ORDERS, PRICE), {"buyers": ("user_id",), "products": ("product_id",)}, {}),
        "basket": Service("basket", (PRICE,), {"products": ("product_id",)}, {"amount": "DOUBLE"}),
        "care": Service("care", (TIER, SECRET), {"buyers": ("user_id",), "health": ("user_id",)}, {}),
        "pay": Service("pay", (LABELLED,), {"pay": ("user_id",)}, {}),
    },
    {
        "buyers": View("buyers", ("user_id",), None, (TIER, ORDERS), "buyers_now"),
        "products": View("products", ("product_id",), None, (PRICE,), "products_now"),
    },
    {"user_id": "STRING", "product_id": "INT64"},
)
HEAD = """\
providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}
features: {repo: repo%s}
models: {m: {targets: [mock/x], prompt: shop@1, features: {%s}}}
"""


def loaded(folder: Path, top: str, model: str, more: str = "") -> Loaded:
    """A configuration whose repository's definitions are known from the last time: no Feast is started."""
    (folder / "repo").mkdir(exist_ok=True)
    (folder / "repo" / "feature_store.yaml").write_text("project: shop\n")
    (folder / "prompts").mkdir(exist_ok=True)
    (folder / "prompts" / "shop@1.yaml").write_text(
        "features: {tier: none}\nmessages: [{role: system, content: '{{ user.tier }}'}, conversation]\n"
    )
    (folder / "gateway.yaml").write_text(HEAD % (top, model) + more)
    made = load(folder / "gateway.yaml", {})
    repository = repository_of(made.configuration)
    repository.data_dir.mkdir(parents=True, exist_ok=True)
    fingerprint = repository.fingerprint().encode()
    (repository.data_dir / "definitions.json").write_bytes(fingerprint + b"\n" + to_json(DEFINITIONS))
    return made


MAPPED = ', entities: {user_id: "{user}", product_id: "{metadata.product_id}"}'
RESIDENCY = "residency: {}\n"


@pytest.mark.parametrize(
    ("top", "model", "more"),
    [
        (MAPPED, "service: shop", ""),
        (MAPPED, "service: shop, defaults: {orders: 0, price: 1}, max_age: {tier: 1h}", ""),
        ("", "service: care", RESIDENCY),
        (", from_calls: {push_source: buyers_now, features: {tier: model, orders: calls}}", "service: care", RESIDENCY),
    ],
)
def test_what_is_right_passes(tmp_path: Path, top: str, model: str, more: str) -> None:
    check_features(loaded(tmp_path, top, model, more))


@pytest.mark.parametrize(
    ("top", "model"),
    [
        (MAPPED, 'service: basket, entities: {amount: "{input.amount}"}'),
        ("", "service: pay, entity: user_id"),
    ],
)
def test_a_template_s_features_are_those_of_the_service(tmp_path: Path, top: str, model: str) -> None:
    with pytest.raises(ConfigError, match="the template shop@1 uses `tier`, which is no feature of `(basket|pay)`"):
        check_features(loaded(tmp_path, top, model))


def test_a_template_s_types_and_units_are_the_features_own(tmp_path: Path) -> None:
    made = loaded(tmp_path, MAPPED, "service: shop")
    for declared, fault in (
        ("orders: {default: 0, type: integer}, price: {default: 0, type: number, unit: EUR}", None),
        ("orders: {default: x, type: string}", "takes `orders` for string, and it is Int64"),
    ):
        (tmp_path / "prompts" / "shop@1.yaml").write_text(f"features: {{{declared}}}\nmessages: [conversation]\n")
        if fault is None:
            check_features(made)
        else:
            with pytest.raises(ConfigError, match=fault):
                check_features(made)


@pytest.mark.parametrize(
    ("top", "model", "expected"),
    [
        (
            MAPPED,
            "service: shp",
            "3:69: models.m.features.service: there is no feature service `shp`; allowed: basket, care, pay, shop; "
            "did you mean `shop`?",
        ),
        (
            "",
            "service: shop",
            "3:59: models.m.features: the feature service `shop` needs an entity, `product_id`: say what it is made of, "
            '`entities: {product_id: "{metadata.product_id}"}`',
        ),
        (
            MAPPED,
            "service: shop, defaults: {teir: x}",
            "3:85: models.m.features.defaults.teir: is no feature of `shop`; allowed: orders, price, tier; "
            "did you mean `tier`?",
        ),
        (
            MAPPED,
            "service: shop, defaults: {orders: many}",
            "3:85: models.m.features.defaults.orders: should be of the feature's type, Int64",
        ),
        (
            MAPPED,
            "service: shop, max_age: {prize: 1h}",
            "3:84: models.m.features.max_age.prize: is no feature of `shop`; allowed: orders, price, tier; "
            "did you mean `price`?",
        ),
        (
            MAPPED,
            'service: shop, entities: {user: "{user}"}',
            "3:85: models.m.features.entities.user: `user` is no join key that `shop` needs; "
            "allowed: product_id, user_id; did you mean `user_id`?",
        ),
        (
            ', entities: {usr_id: "{user}", user_id: "{user}", product_id: "{key}"}',
            "service: shop",
            "2:34: features.entities.usr_id: is no join key of this Feast repository; "
            "allowed: amount, product_id, user_id; did you mean `user_id`?",
        ),
        (
            MAPPED + ", from_calls: {push_source: buyers, features: {orders: calls}}",
            "service: shop",
            "2:115: features.from_calls.push_source: there is no push source `buyers`; "
            "allowed: buyers_now, products_now; did you mean `buyers_now`?",
        ),
        (
            MAPPED + ", from_calls: {push_source: buyers_now, features: {order: calls}}",
            "service: shop",
            "2:138: features.from_calls.features.order: is no feature that `buyers_now` feeds; allowed: orders, tier; "
            "did you mean `orders`?",
        ),
        (
            MAPPED + ", from_calls: {push_source: buyers_now, features: {tier: calls}}",
            "service: shop",
            "2:138: features.from_calls.features.tier: is of the type String; `calls` needs one of; "
            "allowed: Float32, Float64, Int32, Int64",
        ),
        (
            MAPPED + ", from_calls: {push_source: products_now, features: {price: cost}}",
            "service: shop",
            "2:101: features.from_calls.push_source: its rows are about `product_id`, which no model knows a user by; "
            "allowed: user_id",
        ),
        (
            "",
            "service: care",
            "3:69: models.m.features.service: its feature `allergies` is tagged sensitive, and nothing says which targets "
            "are on the premises: write a `residency` section",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, top: str, model: str, expected: str) -> None:
    with pytest.raises(ConfigError) as told:
        check_features(loaded(tmp_path, top, model))
    found = [str(fault).partition("gateway.yaml:")[2] for fault in told.value.faults]
    assert [_message(line) for line in found] == [_message(expected)]
    assert found[0].partition(":")[0] == expected.partition(":")[0], "the line"


def _message(fault: str) -> str:
    """Without its place."""
    return fault.split(": ", 1)[1]


def test_a_label_that_residency_does_not_know_is_told(tmp_path: Path) -> None:
    made = loaded(tmp_path, "", "service: pay", "residency: {labels: [open, shut], stays: shut, default: open}\n")
    with pytest.raises(ConfigError, match=r"its feature `salary` is tagged `internal`.*allowed: open, shut"):
        check_features(made)


def test_a_folder_that_is_no_feast_repository_is_told(tmp_path: Path) -> None:
    made = loaded(tmp_path, "", "service: shop")
    (tmp_path / "repo" / "feature_store.yaml").unlink()
    with pytest.raises(ConfigError, match=r"gateway.yaml:2:12: features.repo: the Feast repository can't be read"):
        check_features(made)


@pytest.mark.parametrize(
    ("features", "model", "fault"),
    [
        ("", "service: s", "models.m.features: `user_id` would be the same for users of the same name in two tenants"),
        (', entities: {user_id: "{user}"}', "service: s", "features.entities.user_id: `user_id` would be the same"),
        (', entities: {user_id: "{tenant}-{user}"}', "service: s", "features.entities.user_id: `user_id` would be"),
        (', entities: {user_id: "{tenant}/{user}"}', "service: s", None),
        (', entities: {product_id: "{metadata.p}"}', "service: s", None),
        (", tenant: a", "service: s", None),
        (', tenant: "*"', "service: s", None),
        (
            ', entities: {user_id: "{tenant}/{user}"}',
            'service: s, entities: {user_id: "{user}"}',
            "models.m.features.entities.user_id: `user_id` would be the same",
        ),
    ],
)
def test_users_of_two_tenants_are_told_apart_or_the_start_is_refused(
    tmp_path: Path, features: str, model: str, fault: str | None
) -> None:
    keys = "".join(f"    - {{name: {name}, tenant: {name}, hash: 'sha256:{name * 64}'}}\n" for name in ("a", "b"))
    more = "access:\n  keys:\n" + keys
    if fault is None:
        loaded(tmp_path, features, model, more)
    else:
        with pytest.raises(ConfigError) as told:
            loaded(tmp_path, features, model, more)
        (one,) = told.value.faults
        assert fault in str(one)
