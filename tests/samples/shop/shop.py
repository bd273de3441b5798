"""A shop's features, for tests: three entities, all types, what grows old, what is sensitive, what is made on demand."""

from datetime import timedelta
from typing import Any

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Array, Bool, Float64, Int64, String, UnixTimestamp

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
product = Entity(name="product", join_keys=["product_id"], value_type=ValueType.INT64)


def pushed(name: str) -> PushSource:
    batch = FileSource(name=f"{name}_file", path=f"{name}.parquet", timestamp_field="event_timestamp")
    return PushSource(name=name, batch_source=batch)


buyers = FeatureView(
    name="buyers",
    entities=[user],
    ttl=timedelta(days=30),
    schema=[
        Field(name="tier", dtype=String, description="gold, silver or none"),
        Field(name="spent", dtype=Float64, description="in the last year", tags={"unit": "EUR"}),
        Field(name="orders", dtype=Int64),
        Field(name="trusted", dtype=Bool),
        Field(name="likes", dtype=Array(String), description="categories, what was bought last first"),
        Field(name="joined", dtype=UnixTimestamp),
    ],
    online=True,
    source=pushed("buyers_now"),
)

health = FeatureView(
    name="health",
    entities=[user],
    ttl=timedelta(0),
    schema=[Field(name="allergies", dtype=Array(String), tags={"sensitive": "true"})],
    online=True,
    source=pushed("health_now"),
)

products = FeatureView(
    name="products",
    entities=[product],
    ttl=timedelta(0),
    schema=[Field(name="price", dtype=Float64, tags={"unit": "EUR"}), Field(name="stock", dtype=Int64)],
    online=True,
    source=pushed("products_now"),
)

ratings = FeatureView(
    name="ratings",
    entities=[user, product],
    ttl=timedelta(0),
    schema=[Field(name="stars", dtype=Int64)],
    online=True,
    source=pushed("ratings_now"),
)

talks = FeatureView(
    name="talks",
    entities=[user],
    ttl=timedelta(days=365),
    schema=[
        Field(name="last_topics", dtype=Array(String)),
        Field(name="questions", dtype=Int64),
        Field(name="unhappy", dtype=Int64),
        Field(name="last_model", dtype=String),
    ],
    online=True,
    source=pushed("talks_now"),
)


@on_demand_feature_view(  # type: ignore[untyped-decorator]  # Feast's has no types
    sources=[products, RequestSource(name="basket", schema=[Field(name="amount", dtype=Float64)])],
    schema=[Field(name="total", dtype=Float64)],
    mode="python",
)
def basket_total(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"total": [price * amount for price, amount in zip(inputs["price"], inputs["amount"], strict=True)]}


shop = FeatureService(name="shop", features=[buyers, products, ratings])
basket = FeatureService(name="basket", features=[products, basket_total])
care = FeatureService(name="care", features=[buyers[["tier"]], health])
helper = FeatureService(name="helper", features=[buyers[["tier"]], talks])
