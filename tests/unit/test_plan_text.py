"""A plan as text, HTML and JSON."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from multicompute.catalog import Catalog
from multicompute.errors import NoOfferError
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.plan import Candidate, Plan, Rejection
from multicompute.resolver import resolve
from multicompute.spec import ClusterSpec
from multicompute.text import Narrowing, table

PROVIDERS = Path(__file__).parents[2] / "providers"
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
CONFIGURED = {"aws": "", "gcp": "no project", "azure": "no subscription was found in the environment or in a profile"}


def real(**values: Any) -> Plan:
    return resolve(ClusterSpec.of(values), CATALOG, now=NOW, configured=CONFIGURED)


SPECS: Sequence[dict[str, Any]] = (
    {"gpus": 64, "type": "h100"},
    {"gpus": 2048, "type": ["h100", "a100", "mi300x"], "spot": "prefer", "interconnect": "any", "clouds": ["azure"]},
    {"gpus": 1, "type": "t4", "estimates": False, "regions": ["gcp:*"], "spot": "prefer"},
    {"gpus": 64, "type": "h100", "regions": ["il"], "max_price": 1},
    {"type": "c6i.12xlarge", "nodes": 4, "disk": "100GiB", "budget": 50},
)


@pytest.mark.parametrize("values", SPECS)
@pytest.mark.parametrize("width", [60, 80, 100])
def test_an_explained_plan_fits_into_the_width(values: dict[str, Any], width: int) -> None:
    text = real(**values).explain(limit=1000, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_an_explained_plan_shows_price_date_source_marks_notes_and_reasons() -> None:
    text = real(gpus=64, type="h100").explain(limit=200, width=None)
    assert "64 x h100, on demand: 123 candidates, the cheapest first" in text
    first = next(line for line in text.splitlines() if line.lstrip().startswith("1 "))
    assert first.split() == [
        "1",
        "aws",
        "us-east-1a",
        "+5",
        "8",
        "x",
        "p5.48xlarge",
        "64",
        "440.32",
        "6.88",
        "2026-07-20",
        "a",
        "S",
    ]
    assert "S  stale price" in text
    assert "N  not configured" in text
    assert "a  karpenter-provider-aws" in text
    assert "gcp is not configured: no project" in text
    assert "48,335  wrong accelerator" in text


def test_the_short_form_shows_the_first_ten_without_the_reasons() -> None:
    found = real(gpus=64, type="h100")
    assert "... and 83 more" in str(found)
    assert "wrong accelerator" not in str(found)


def test_a_plan_has_a_line_for_zones_of_the_same_price_and_at_least_one_for_each_cloud() -> None:
    found = real(gpus=64, type="h100")
    lines = found.explain(limit=3).split("\n\n")[1].splitlines()[1:]
    ranks = [int(line.split()[0]) for line in lines]
    assert ranks == [1, 7, 13, 58, 79]
    assert [found[rank - 1].provider for rank in ranks] == ["aws", "aws", "aws", "gcp", "azure"]
    assert len({candidate.zone for candidate in found[:6]}) == 6
    assert len({(candidate.region, candidate.instance_type, candidate.hourly_cost) for candidate in found[:6]}) == 1
    assert "aws us-east-1a +5" in lines[0]


def test_a_plan_is_a_sequence_with_a_short_repr() -> None:
    found = real(gpus=64, type="h100")
    assert found[0] is found.best
    assert found[-1] == found.candidates[122]
    assert (len(found), len(found[:3])) == (123, 3)
    assert repr(found.best) == "<Candidate aws us-east-1a 8 x p5.48xlarge on demand $440.32/h>"
    assert repr(found) == f"<Plan 64 x h100, on demand: 123 candidates, the cheapest first; {found.best!r}>"


def test_the_best_of_a_plan_without_candidates_is_an_error_with_the_nearest_change() -> None:
    found = real(gpus=64, type="h100", max_price=3.9)
    assert repr(found) == "<Plan 64 x h100: no candidate>"
    with pytest.raises(NoOfferError, match="64 x h100: no candidate .max_price=6.88 would have one") as caught:
        _ = found.best
    assert caught.value.plan is found


def test_a_plan_without_candidates_shows_the_nearest_change() -> None:
    text = str(real(gpus=64, type="h100", max_price=3.9))
    assert "64 x h100: no candidate" in text
    assert "nearest: max_price=6.88 would have one: aws us-east-1a" in text


def test_the_html_form_escapes_text_from_tables() -> None:
    instance = InstanceType("<b>", "x & y", "h100", 8)
    offer = Offer(instance, "r", "", "on_demand", Quote(8, date(2026, 1, 1), "<script>", "estimate"))
    found = Plan(ClusterSpec(gpus=8, type=("h100",)), (Candidate((Part(offer, 1),)),), {"retired": Rejection(1)})
    html = found._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "x &amp; y" in html


def test_the_json_form_has_every_candidate_and_count() -> None:
    found = real(gpus=64, type="h100")
    document = json.loads(json.dumps(found.to_dict()))
    assert len(document["candidates"]) == len(found) == 123
    assert document["candidates"][0]["hourly_usd"] == 440.32
    assert document["rejected"] == {reason: item.count for reason, item in found.rejected.items()}


def test_candidates_are_a_sequence() -> None:
    candidates = real(gpus=64, type="h100").candidates
    assert candidates[-1] == list(candidates)[-1]
    assert candidates[1:3] == (candidates[1], candidates[2])
    assert candidates == tuple(candidates)
    assert candidates != ()
    with pytest.raises(IndexError):
        candidates[len(candidates)]


def test_a_plan_with_several_purchase_types_shows_them_in_each_row() -> None:
    text = real(gpus=64, type="h100", spot="prefer").explain(limit=1000)
    assert "64 x h100: " in text
    assert {"spot", "on demand"} <= {word for line in text.splitlines() for word in re.split("  +", line)}


def test_a_table_shortens_its_widest_column_and_omits_empty_ones() -> None:
    text = table(
        ("name", "empty", "n"), [("a" * 15 + "b" * 15, "", "1"), ("b", "", "22")], right=frozenset({2}), width=20
    )
    assert text.splitlines() == ["name               n", "aaaaaaaa…bbbbbbb   1", "b                 22"]


def test_a_table_that_is_too_wide_loses_columns_in_a_fixed_order_and_keeps_ids() -> None:
    headers = ("name", "state", "place", "detail")
    rows = [("a-name-of-twenty-char", "READY", "aws us-east-1a", "one two three four five six seven eight nine ten")]
    narrowing = Narrowing(prose="detail", drop=("place", "state"))

    def titles(width: int | None) -> list[str]:
        return table(headers, rows, width=width, narrowing=narrowing).splitlines()[0].split()

    assert titles(None) == titles(80) == ["name", "state", "place", "detail"]
    assert titles(62) == ["name", "state", "detail"]
    assert titles(55) == ["name", "detail"]
    for width in (55, 62, 80):
        lines = table(headers, rows, width=width, narrowing=narrowing).splitlines()
        assert max(map(len, lines)) <= width
        assert lines[1].startswith("a-name-of-twenty-char  ")
    assert table(headers, rows, width=55, narrowing=narrowing).splitlines()[1:] == [
        "a-name-of-twenty-char  one two three four five six",
        "                       seven eight nine ten",
    ]


def test_only_columns_that_may_be_shortened_are_cut() -> None:
    narrowing = Narrowing(shorten=("place",))
    text = table(("id", "place"), [("i-0123456789abcdef0", "azure northcentralus-1")], width=38, narrowing=narrowing)
    assert text.splitlines()[1] == "i-0123456789abcdef0  azure no…tralus-1"


def test_a_word_that_is_too_long_for_its_column_has_a_line_of_its_own() -> None:
    path = "sqlite:////home/somebody/.local/share/state.db"
    rows = [("ledger", "yes", f"{path} (does not exist yet)"), ("catalog", "yes", "a")]
    text = table(("check", "ok", "detail"), rows, width=48, narrowing=Narrowing(prose="detail"))
    assert text.splitlines() == [
        "check    ok   detail",
        "ledger   yes",
        f"  {path}",
        "              (does not exist yet)",
        "catalog  yes  a",
    ]
