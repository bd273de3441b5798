"""What a prompt may know of the person who asks."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import String

user = Entity(
    name="user",
    join_keys=["user_id"],
    value_type=ValueType.STRING,
    description="A person, by the id that the caller's key vouches for",
)

# Values arrive by push; the file is where a batch job would leave them for `feast materialize`.
profiles_file = FileSource(name="staff_profiles_file", path="staff_profiles.parquet", timestamp_field="event_timestamp")
profiles = PushSource(name="staff_profiles", batch_source=profiles_file)

staff_profile_view = FeatureView(
    name="staff_profile_view",
    entities=[user],
    ttl=timedelta(days=365),
    schema=[
        Field(name="plan", dtype=String, description="free, team or enterprise"),
        Field(name="language", dtype=String, description="BCP 47 tag of the language to answer in, e.g. en or de"),
        Field(name="expertise", dtype=String, description="beginner, practitioner or expert"),
    ],
    online=True,
    source=profiles,
)

staff_profile = FeatureService(name="staff_profile", features=[staff_profile_view])
