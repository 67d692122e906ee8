"""`up` shows what it will buy and asks; without a terminal it needs `--yes` above `confirm_above`."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from multicompute import Cluster
from multicompute.config import apply_environment
from multicompute.errors import CapacityError, NoOfferError, SpecError
from multicompute.session import Session
from multicompute.testing import LocalClouds, local_clouds
from tests.cli.conftest import Done

if TYPE_CHECKING:
    from multicompute_aws.local import AwsLocalCloud

Run = Callable[..., Done]
UP = ("up", "--type", "h100", "--cloud", "aws", "--region", "us-east-1", "--name", "train-1", "--no-progress")


class Keyboard:
    """A terminal on which this is typed."""

    def __init__(self, *typed: str) -> None:
        self.typed = list(typed)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.typed.pop(0)


@pytest.fixture(scope="module")
def clouds() -> Iterator[LocalClouds]:
    with local_clouds("aws") as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_left(clouds: LocalClouds) -> Iterator[None]:
    yield
    for cluster in Cluster.list():
        cluster.terminate()
    assert clouds.alive() == []


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Keyboard]:
    """Type on a terminal, on which stderr is shown as well."""

    def types(*typed: str) -> Keyboard:
        keyboard = Keyboard(*typed)
        monkeypatch.setattr("sys.stdin", keyboard)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        return keyboard

    return types


def test_without_a_terminal_a_request_over_confirm_above_is_refused_with_the_remedy(run: Run) -> None:
    done = run(*UP, "--gpus", "16")
    assert done.status == 2
    assert "16 x h100 cost $110.08/h, over confirm_above (100), and there is no terminal to ask on" in done.err
    assert "add --yes, or raise `confirm_above`" in done.err
    assert len(done.err) < 300
    assert Cluster.list() == []


def test_yes_and_a_higher_confirm_above_let_it_go_ahead(run: Run) -> None:
    assert run(*UP, "--gpus", "16", "--yes").status == 0
    # The same request again finds its cluster and buys nothing.
    assert run(*UP, "--gpus", "16").status == 0
    assert run("down", "train-1", "--yes").status == 0
    with apply_environment({"MULTICOMPUTE_CONFIRM_ABOVE": "110.08"}):
        assert run(*UP, "--gpus", "16").status == 0


def test_below_confirm_above_no_confirmation_is_needed_and_nothing_dearer_is_bought(
    run: Run, clouds: LocalClouds
) -> None:
    with apply_environment({"MULTICOMPUTE_CONFIRM_ABOVE": "60"}):
        assert run(*UP, "--gpus", "8").status == 0
        run("down", "train-1", "--yes")
    dearer = [c for c in Cluster.plan(gpus=8, type=["h100", "h200"], clouds="aws") if c.hourly_cost > 56]
    assert dearer
    clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", 0)
    try:
        with apply_environment({"MULTICOMPUTE_CONFIRM_ABOVE": "56"}):
            done = run(*UP[:3], "--type", "h200", *UP[3:], "--gpus", "8", "--region", "us-west-2")
            reasons = Cluster.list(include_ended=True)[-1].events()
    finally:
        clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", None)
    assert done.status in (0, 4)
    assert not any("p5e" in event.message or "p5en" in event.message for event in reasons if event.kind == "attempt")


def test_confirm_above_zero_asks_for_everything(run: Run) -> None:
    with apply_environment({"MULTICOMPUTE_CONFIRM_ABOVE": "0"}):
        assert run(*UP, "--gpus", "1").status == 2


def test_on_a_terminal_it_shows_what_it_buys_and_asks(run: Run, typing: Callable[..., Keyboard]) -> None:
    typing("n\n")
    done = run(*UP, "--gpus", "16", "--ttl", "10h")
    assert (done.status, done.out) == (1, "")
    lines = done.err.splitlines()
    assert re.match(r"aws us-east-1[a-f] 2 x p5.48xlarge on demand \$110.08/h", lines[0])
    assert lines[0].endswith(": 16 x h100")
    assert lines[1] == "  $110.08 per hour, $1,100.80 to the end of its 10h"
    assert lines[-2:] == ["Launch it? [y/N] ", "nothing was launched"]
    assert Cluster.list() == []
    typing("y\n")
    assert run(*UP, "--gpus", "16", "--ttl", "10h").status == 0


def test_the_next_alternatives_and_their_prices_are_shown(run: Run, typing: Callable[..., Keyboard]) -> None:
    typing("\n")
    done = run("up", "--gpus", "8", "--type", "h100", "--type", "h200", "--cloud", "aws", "--ttl", "none")
    assert sum(line.startswith("  else aws ") for line in done.err.splitlines()) == 2
    assert "; --max-hourly sets a limit" in done.err
    assert "without an end: it has no ttl" in done.err


def test_yes_skips_the_question(run: Run, typing: Callable[..., Keyboard]) -> None:
    keyboard = typing("n\n")
    assert run(*UP, "--gpus", "8", "--yes").status == 0
    assert keyboard.typed == ["n\n"]


def test_a_surplus_is_shown_in_the_question_and_in_show(run: Run, typing: Callable[..., Keyboard]) -> None:
    refused = run(*UP, "--gpus", "8", "--nodes", "3", "--yes")
    assert refused.status == 3
    assert "--nodes" in refused.err
    typing("y\n")
    done = run(*UP, "--gpus", "8", "--nodes", "3", "--allow-surplus", "--gpus-per-node", "8")
    assert done.status == 2
    typing("y\n")
    done = run(*UP[:2], "p5.48xlarge", *UP[3:], "--gpus", "12", "--allow-surplus")
    assert "16 x h100 (12 asked for)" in done.err
    assert "16 p5.48xlarge (12 requested)" in run("show", "train-1").out
    assert run("ls", "--json").document[0]["gpus"] == 16


def test_the_configured_max_hourly_is_a_ceiling_for_every_request() -> None:
    with apply_environment({"MULTICOMPUTE_MAX_HOURLY": "60"}):
        with pytest.raises(NoOfferError, match="over the configured max_hourly"):
            Cluster.request(gpus=16, type="h100", clouds="aws")
        with pytest.raises(NoOfferError):
            Cluster.plan(gpus=16, type="h100", max_hourly=1000)
        with Cluster.request(gpus=8, type="h100", clouds="aws", regions="us-east-1") as cluster:
            assert cluster.hourly_cost <= 60


def test_the_ceiling_holds_against_the_price_of_today(clouds: LocalClouds) -> None:
    aws = cast("AwsLocalCloud", clouds.aws)
    for zone in "abcdef":
        aws.set_spot_price("p5.48xlarge", f"us-east-1{zone}", 54.0)
    spot: dict[str, Any] = {"gpus": 8, "type": "p5.48xlarge", "clouds": "aws", "regions": "us-east-1", "spot": True}
    with apply_environment({"MULTICOMPUTE_MAX_HOURLY": "50"}):
        assert Cluster.plan(**spot).best.hourly_cost < 50
        with pytest.raises(CapacityError, match=r"costs \$54.00/h today, more than the ceiling of \$50") as caught:
            Cluster.request(**spot, interconnect="any")
        assert str(caught.value).startswith("no price within the limits for 8 x p5.48xlarge in any of 6 tries: 6 price")
        assert "raise `max_hourly` in the configuration" in str(caught.value)
    assert clouds.alive() == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"budget": 0.5}, "is billed for at least 1m"),
        ({"ttl": "1s"}, "shorter than a launch usually takes"),
        ({"ttl": "2h", "idle_timeout": "3h"}, "idle_timeout='3h' is longer than ttl='2h'"),
        ({"idle_timeout": "2d"}, r"idle_timeout='2d' is longer than ttl='1d'"),
    ],
)
def test_a_limit_that_is_broken_at_once_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Cluster.plan(gpus=8, type="h100", clouds="aws", **values)
    with pytest.raises(SpecError, match=message):
        Cluster.request(gpus=8, type="h100", clouds="aws", **values)
    assert Cluster.list(include_ended=False) == []


def test_a_ttl_shorter_than_a_launch_in_a_real_cloud_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with apply_environment({"MULTICOMPUTE_OWNER": "someone"}):
        # No cloud of a test is farther away than this machine.
        monkeypatch.setattr(Session, "usual_launches", {"aws": timedelta(minutes=1)})
        with pytest.raises(SpecError, match="ttl='30s' is shorter than a launch usually takes"):
            Cluster.plan(gpus=8, type="h100", clouds="aws", ttl="30s")
