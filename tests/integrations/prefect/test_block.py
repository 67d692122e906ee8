"""The block: stored by the server, used by name, and without showing its secrets."""

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client

from multicompute import Cluster
from multicompute.integrations.prefect import Multicompute, cluster, request_cluster, terminate_cluster
from multicompute.testing import LocalClouds
from tests.integrations.prefect.run_pages import page, run_id

SECRET = "hunter2-of-the-block"


@pytest.fixture(name="saved")
def _saved(tmp_path: Path) -> Multicompute:
    values: dict[str, Any] = {
        "state": f"sqlite:///{tmp_path}/{SECRET}.db",
        "owner": "team",
        "default_ttl": "3h",
        "settings": {"aws": {"regions": "us-west-2"}},
        "environment": {"AWS_ACCESS_KEY_ID": "of-the-block", "AWS_SECRET_ACCESS_KEY": SECRET},
    }
    block = Multicompute(**values)
    block.save("team", overwrite=True)
    return block


def test_a_saved_block_sets_the_ledger_and_the_regions(
    saved: Multicompute, clouds: LocalClouds, tmp_path: Path
) -> None:
    @flow
    def train() -> str:
        with cluster(gpus=8, type="h100", config="team") as fleet:
            assert fleet.region == "us-west-2"
            assert fleet.expires_at is not None and (fleet.expires_at - fleet.created_at).seconds == 3 * 3600
            # The configuration of this machine has another ledger.
            assert Cluster.list() == []
        handle = request_cluster(8, "h100", config=saved)
        terminate_cluster(handle, config=saved)
        return run_id()

    flow_run = train()
    assert (tmp_path / f"{SECRET}.db").exists()
    assert clouds.alive() == []
    artifacts, log = page(flow_run)
    assert "us-west-2" in log
    assert SECRET not in log + repr([each.model_dump() for each in artifacts.values()])


def test_nothing_shows_the_secrets_of_a_block(saved: Multicompute) -> None:
    async def shown() -> str:
        async with get_client() as client:
            return repr(await client.read_block_document_by_name("team", "multicompute", include_secrets=False))

    assert SECRET not in repr(saved) + str(saved) + asyncio.run(shown())
    loaded = Multicompute.load("team")
    assert isinstance(loaded, Multicompute)
    assert loaded.variables() == saved.variables()
    assert loaded.variables()["AWS_SECRET_ACCESS_KEY"] == SECRET
    assert loaded.variables()["MULTICOMPUTE_AWS__REGIONS"] == "us-west-2"


def test_the_entry_point_registers_the_block_with_prefect() -> None:
    from prefect.plugins import load_prefect_collections

    loaded = load_prefect_collections()["multicompute"]
    assert isinstance(loaded, ModuleType)
    assert loaded.Multicompute is Multicompute
