"""`multicompute verify` finds each promise that a cloud or an adapter breaks, and tears everything down."""

import pytest

from tests.verify import broken
from tests.verify.conftest import Site

FAULTS = {
    broken.ExpiryTagMissing: "tags at birth",
    broken.UserTagMissing: "tags at birth",
    broken.NeverRuns: "launch of one node",
    broken.TokenNotHonoured: "the same token again",
    broken.HalfAGang: "launch of a gang",
    broken.NodeNotListed: "listing",
    broken.OtherClusterListed: "listing",
    broken.ExpiryNotWritten: "expiry moved",
    broken.BootScriptDropped: "boot script",
    broken.EndedNodeListedAsRunning: "node ended from outside",
    broken.TerminateNotDone: "teardown",
    broken.OtherClusterTornDown: "other clusters untouched",
    broken.ResourceLeft: "nothing left",
    broken.QuotaUnreadable: "quota",
    broken.RightMissing: "rights",
}
IMAGE_CALLS = {
    "aws": ("DescribeImages", "InvalidAMIID.NotFound", "The image id '[ami-1]' does not exist", 400),
    "azure": (
        "virtualMachineScaleSets.createOrUpdate",
        "PlatformImageNotFound",
        "The platform image 'x' is not available.",
        404,
    ),
    "gcp": ("instances.bulkInsert", "notFound", "The resource 'projects/p/global/images/family/f' was not found", 404),
}


def failed(site: Site, *, fault: type[broken.Wrapped] = broken.Wrapped, has_timers: bool = True) -> list[str]:
    """Return the checks that fail with a fault; nothing may be left, and nothing of others may be touched."""
    done = site.verify("--json", fault=fault, has_timers=has_timers)
    assert site.cloud.alive() == []
    assert site.cloud.foreign_intact()
    assert done.document["left"] == []
    assert done.status == (1 if done.document["failed"] else 0), done.err
    names: list[str] = done.document["failed"]
    return names


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found_by_the_check_of_its_promise_and_by_no_other(site: Site, fault: type[broken.Wrapped]) -> None:
    if fault is broken.ResourceLeft and site.name == "gcp":
        pytest.skip("a launch without a key that may log in creates nothing that belongs to the complete cluster")
    assert failed(site, fault=fault) == [FAULTS[fault]]


def test_a_missing_image_is_found_by_the_check_of_the_image(site: Site) -> None:
    operation, code, message, status = IMAGE_CALLS[site.name]
    site.cloud.faults.fail(operation, code, message=message, status=status, times=None)
    assert failed(site) == ["image"]


def test_a_timer_that_does_not_work_is_found_where_the_cloud_promises_the_expiry(site: Site) -> None:
    assert failed(site, has_timers=False) == ([] if site.name == "azure" else ["expiry enforced"])


def test_without_faults_every_check_passes(site: Site) -> None:
    done = site.verify("--json")
    assert done.status == 0, done.err
    assert {check["status"] for check in done.document["checks"]} == {"passed"}
    assert site.cloud.alive() == []
    assert site.cloud.foreign_intact()


def test_a_missing_right_is_found_before_anything_is_launched(site: Site) -> None:
    done = site.verify("--json", fault=broken.RightMissing)
    assert done.document["spent_usd"] == 0
    assert site.command("ls", "--all", "--json").document == []


def test_refused_credentials_are_status_6_and_nothing_is_launched(site: Site) -> None:
    done = site.verify("--json", fault=broken.CredentialsRefused)
    assert (done.status, done.document["failed"]) == (6, ["credentials"])
    assert "AKIA" not in done.out and "me@" not in done.out
    assert site.command("ls", "--all", "--json").document == []


def test_what_the_cloud_does_not_delete_is_status_9_and_named_on_the_terminal(site: Site) -> None:
    done = site.verify("--json", fault=broken.TerminateNeverDone)
    assert done.status == 9
    (name,) = done.document["left"]
    assert done.document["failed"] == ["teardown", "nothing left"]
    assert f"{name}: something is left; `multicompute reap` continues" in done.err
    assert site.command("reap").status == 0
    assert site.cloud.alive() == []


def test_a_bug_in_the_adapter_leaves_nothing_running(site: Site) -> None:
    with pytest.raises(ZeroDivisionError):
        site.verify(fault=broken.Crashes)
    assert site.cloud.alive() == []
    assert {cluster["state"] for cluster in site.command("ls", "--all", "--json").document} == {"TERMINATED"}
