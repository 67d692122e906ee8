"""How long Google's machines and slices live at most, and how long they take to come up: by the names of their types."""

from datetime import timedelta

from multicompute.catalog import Catalog
from multicompute.provider import Settings, attempt_timeout_of, longest_life
from multicompute_gcp import plugin
from multicompute_gcp._limits import MAX_RUN
from multicompute_gcp._provider import GcpProvider


def test_every_machine_type_has_the_limit_of_a_run_duration_and_no_slice_has() -> None:
    assert plugin.tables is not None
    catalog = Catalog({"gcp": plugin.tables})
    types = {line.instance for name in ("", *catalog.accelerators()) for line in catalog.listings(name)}
    slices = {each for each in types if each.accelerator.startswith("tpu")}
    assert len(slices) > 50
    for instance in types:
        limit = longest_life(plugin.lifetime_limits, instance, "on_demand", has_expiry=True)
        assert limit == (None if instance in slices else MAX_RUN), instance.name


def test_slices_of_many_hosts_have_half_an_hour_to_come_up() -> None:
    provider = GcpProvider(Settings({"endpoint_url": "http://127.0.0.1:1", "project": "p"}))
    for name, minutes in {"v5p-128": 10, "v5p-256": 30, "v4-2048": 30, "tpu7x-512": 30, "a3-highgpu-8g": 10}.items():
        assert attempt_timeout_of(provider, [name]) == timedelta(minutes=minutes)
