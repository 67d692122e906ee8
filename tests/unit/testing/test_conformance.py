"""The conformance suite finds providers that break a promise, and skips only what they do not declare."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from multicompute.errors import CapacityError, ProviderError
from multicompute.node import Node
from multicompute.provider import TAG_ID, Capability, LaunchRequest, Resource, Selector, Teardown
from multicompute.testing import FailureKind, FakeProvider, ProviderConformance, ProviderHarness
from multicompute.testing.fake.harness import FakeHarness

pytest_plugins = ["pytester"]


class LaunchesPart(FakeProvider):
    """Launches a smaller gang without capacity for the complete one."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        try:
            return super().launch(request)
        except CapacityError:
            smaller = tuple(replace(part, nodes=part.nodes - 1) for part in request.parts)
            super().launch(replace(request, parts=smaller))
            raise


class ForgetsTokens(FakeProvider):
    """Launches again for a repeated token."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        self._by_token.pop(request.token, None)
        return super().launch(request)


class ForgetsUserTags(FakeProvider):
    """Sets only the tags of multicompute."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        ours = {key: value for key, value in request.tags.items() if key.startswith("multicompute-")}
        return super().launch(replace(request, tags=ours))


class ListsOnePage(FakeProvider):
    """Reads only the first page of a listing."""

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        return super().nodes(selector)[:100]


class ShufflesListings(FakeProvider):
    """Lists in a different order each time."""

    def nodes(self, selector: Selector) -> tuple[Node, ...]:
        nodes = super().nodes(selector)
        return nodes if self.faults.count("nodes") % 2 else nodes[::-1]


class TerminatesEverything(FakeProvider):
    """Terminates more than was selected."""

    def terminate(self, selector: Selector) -> Teardown:
        for resource in super().resources(Selector()):
            if resource.kind == "node":
                super().terminate(Selector(cluster_id=resource.tags[TAG_ID]))
        return super().terminate(selector)


class TerminatesClusterInsteadOfAttempt(FakeProvider):
    """Terminates the complete cluster instead of one attempt."""

    def terminate(self, selector: Selector) -> Teardown:
        if selector.token is not None:
            for node in self.nodes(selector):
                super().terminate(Selector(cluster_id=self._machines[node.id].tags[TAG_ID]))
        return super().terminate(selector)


class LeavesGroups(FakeProvider):
    """Neither deletes nor lists dependent resources."""

    def _delete_groups(self, selector: Selector, now: object) -> str:
        return ""

    def _existing(self, selector: Selector, now: object) -> tuple[Resource, ...]:
        return tuple(item for item in super()._existing(selector, now) if item.kind != "group")  # type: ignore[arg-type]


class ReportsDoneTooEarly(FakeProvider):
    """Reports that a teardown is done when it has only been requested."""

    def terminate(self, selector: Selector) -> Teardown:
        super().terminate(selector)
        return Teardown()


class TreatsHiddenAsGone(FakeProvider):
    """Treats a node that a listing does not show as gone."""

    def terminate(self, selector: Selector) -> Teardown:
        return super().terminate(replace(selector, node_ids=()))


class TranslatesEverythingToCapacity(FakeProvider):
    """Translates an unknown code to a lack of capacity."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        try:
            return super().launch(request)
        except ProviderError as error:
            raise CapacityError(error.message, provider="fake", region=error.region, code=error.code) from error


class IgnoresExpiry(FakeProvider):
    """Declares EXPIRY, but does not terminate nodes."""

    def launch(self, request: LaunchRequest) -> tuple[Node, ...]:
        nodes = super().launch(request)
        for node in nodes:
            self._machines[node.id].expires_at = None
        return nodes


suite = ProviderConformance()
BROKEN: Sequence[tuple[type[FakeProvider], Callable[[ProviderHarness], None]]] = [
    (LaunchesPart, suite.test_without_capacity_for_the_whole_gang_nothing_is_launched),
    (ForgetsTokens, suite.test_the_same_token_again_gives_the_same_nodes_and_buys_nothing),
    (ForgetsTokens, suite.test_a_launch_whose_answer_was_lost_is_the_same_launch_when_repeated),
    (ForgetsTokens, suite.test_two_launches_of_one_token_at_once_buy_once),
    (ForgetsUserTags, suite.test_everything_that_a_launch_creates_is_tagged_at_its_creation),
    (ListsOnePage, suite.test_a_listing_reads_every_page_and_has_a_stable_order),
    (ShufflesListings, suite.test_a_listing_reads_every_page_and_has_a_stable_order),
    (TerminatesEverything, suite.test_a_teardown_changes_neither_other_clusters_nor_foreign_resources),
    (TerminatesClusterInsteadOfAttempt, suite.test_a_teardown_by_token_leaves_the_rest_of_the_cluster),
    (LeavesGroups, suite.test_a_teardown_ends_with_nothing_left_in_the_cloud),
    (LeavesGroups, suite.test_a_teardown_deletes_what_a_refused_launch_left_behind),
    (ReportsDoneTooEarly, suite.test_a_teardown_ends_with_nothing_left_in_the_cloud),
    (TreatsHiddenAsGone, suite.test_a_node_that_listings_do_not_show_yet_is_not_treated_as_gone),
    (IgnoresExpiry, suite.test_a_node_is_terminated_at_its_expiry_without_a_call),
]


@pytest.mark.parametrize(("broken", "test"), BROKEN, ids=[f"{kind.__name__}-{test.__name__}" for kind, test in BROKEN])
def test_a_provider_that_breaks_a_promise_is_found(
    broken: type[FakeProvider], test: Callable[[ProviderHarness], None]
) -> None:
    test(FakeHarness())
    with pytest.raises(AssertionError):
        test(FakeHarness(broken("fake")))


def test_a_provider_that_translates_an_unknown_code_to_a_lack_of_capacity_is_found() -> None:
    with pytest.raises(AssertionError):
        suite.test_a_refusal_becomes_the_error_of_its_kind_with_place_and_code(
            FakeHarness(TranslatesEverythingToCapacity("fake")), FailureKind.UNKNOWN
        )


MODULE = """
import pytest
from multicompute.testing import FakeProvider, ProviderConformance
from multicompute.testing.fake.harness import FakeHarness

class TestPlain(ProviderConformance):
    @pytest.fixture
    def harness(self):
        return FakeHarness(FakeProvider("fake", capabilities=()))
"""


def test_a_provider_without_capabilities_skips_only_the_tests_of_capabilities(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(MODULE)
    result = pytester.runpytest_subprocess("-q", "-rs", "-p", "no:randomly", "-p", "no:asyncio")
    about = [test for name in dir(suite) if hasattr(test := getattr(suite, name), "needs")]
    outcomes = result.parseoutcomes()
    assert outcomes["skipped"] == len(about) > 5
    assert set(outcomes) == {"passed", "skipped"}
    result.stdout.fnmatch_lines(["*fake does not declare the capability spot*"])


def test_a_subclass_without_a_harness_gets_an_error_that_says_so() -> None:
    fixture = ProviderConformance.__dict__["harness"]
    with pytest.raises(NotImplementedError, match="must override the fixture `harness`"):
        next(fixture.__wrapped__(suite) if hasattr(fixture, "__wrapped__") else fixture._get_wrapped_function()(suite))


def test_every_test_that_needs_a_capability_names_one_that_exists() -> None:
    needed = {getattr(getattr(suite, name), "needs", None) for name in dir(suite) if name.startswith("test_")}
    assert needed - {None} <= set(Capability)
