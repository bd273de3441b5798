"""A lake in an object store, over S3's protocol, and in one that fsspec knows."""

from __future__ import annotations

import boto3
import pytest
from lake_calls import exchange_of, store
from moto.server import ThreadedMotoServer
from sqlalchemy import delete

from gateway.lake.adopting import Adopted, adopt
from gateway.lake.storage import LakeUnavailable, Storage
from gateway.records.database import Database
from gateway.records.schema import lake_files
from gateway.records.users import UserRecords

from .conftest import Filled

SECRET = "canary-secret-of-the-bucket"


def use(filled: Filled, database: Database) -> None:
    """Fill, merge, erase; and ask."""
    kept = []
    for _ in range(8):
        kept += store(database, exchange_of("a/b", "max"))
        store(database, exchange_of("a/b", "jo"))
        filled.fill()
    assert len(filled.manifest.live("calls")) == 8
    assert filled.compact() == 8
    UserRecords(database).erase("a/b", "jo")
    assert filled.erase() == 8
    assert filled.ids() == sorted(kept)
    paths = [path for path in filled.storage.listed() if path.endswith(".parquet")]
    assert paths == [filled.manifest.live("calls")[0].path]
    assert filled.lake.open(), "who takes over compares what is there with what is known"
    assert filled.ids() == sorted(kept)
    before = filled.manifest.live()
    with database.writing() as connection:
        connection.execute(delete(lake_files))
    assert adopt(database, filled.lake) == Adopted(1, 8, 0, 0)
    assert filled.manifest.live() == before


def test_s3(database: Database) -> None:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        client = boto3.client(
            "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="id", aws_secret_access_key=SECRET
        )
        client.create_bucket(Bucket="calls")
        client.close()
        options = {"endpoint_override": url, "region": "us-east-1", "access_key": "id", "secret_key": SECRET}
        use(Filled(database, "s3://calls/lake/of ours", options=options), database)
        with pytest.raises(LakeUnavailable) as failure:
            with Storage("s3://nobodys/lake", options).writing("x"):
                pass
        assert SECRET not in str(failure.value)
    finally:
        server.stop()


def test_one_of_fsspecs(database: Database) -> None:
    use(Filled(database, "memory://calls/lake"), database)


def test_wrong_urls_and_options_are_told() -> None:
    with pytest.raises(ValueError, match="nothing knows the scheme gopher"):
        Storage("gopher://x/y")
    with pytest.raises(ValueError, match="s3 has no option secret"):
        Storage("s3://x/y", {"secret": SECRET})
