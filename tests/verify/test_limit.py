"""A verification stops at its limit."""

from datetime import timedelta

import pytest

from multicompute.testing import fake_cloud
from multicompute.testing.faults import Call
from multicompute.verify.purchase import choose
from tests.verify.conftest import Site


def test_at_its_limit_nothing_more_is_launched_and_everything_is_torn_down(site: Site) -> None:
    at_most = site.verify("--json").document["at_most_usd"]

    def take_hours(call: Call) -> None:
        # Nodes that run for longer than their ttl, since their timers do not work.
        if len(site.cloud.running_ids()) == 1 and not waited:
            waited.append(call)
            site.clock.sleep(timedelta(hours=3))

    waited: list[Call] = []
    site.cloud.faults.clear()
    site.cloud.faults.hook("*", take_hours)
    done = site.verify("--json", "--max-spend", str(at_most), has_timers=False)
    found = {check["name"]: check for check in done.document["checks"]}
    for name in ("launch of a gang", "boot script"):
        assert (found[name]["status"], "limit" in found[name]["finding"]) == ("not checked", True)
    assert site.cloud.alive() == []


def test_the_limit_covers_every_node_until_its_ttl_at_the_highest_price() -> None:
    with fake_cloud() as cloud:
        purchase = choose(cloud.session, "aws", types=["t3.micro"], regions=["us-east-1"], max_spend=1)
    # A node for 40 minutes, and again if its token is not honoured; two and one for 20 minutes each.
    hours = (2 * 40 + 2 * 20 + 20) / 60
    assert purchase.at_most == pytest.approx(hours * 1.25 * 0.0104, abs=1e-6)
    assert purchase.at_price(0.02).at_most == pytest.approx(hours * 1.25 * 0.02, abs=1e-6)
    assert purchase.at_price(0.001) == purchase
