"""The HTML of plans, clusters and cost reports: the same figures as the text, and nothing that runs or loads."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import Cluster
from multicompute.catalog import Catalog
from multicompute.cli import main
from multicompute.cost.report import report
from multicompute.markup import html_facts, html_folded, html_list, html_paragraph, html_table
from multicompute.offer import InstanceType, Offer, Part, Quote
from multicompute.plan import Candidate, Plan, Rejection
from multicompute.resolver import resolve
from multicompute.spec import ClusterSpec
from multicompute.testing import FakeCloud

PROVIDERS = Path(__file__).parents[2] / "providers"
CATALOG = Catalog({name: PROVIDERS / f"multicompute_{name}" / "data" for name in ("aws", "gcp", "azure")})
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOSTILE = "</td></table><script>alert('1')</script><img src=x onerror=\"alert(2)\">&lt;"
TAGS = {"table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "p", "ul", "li", "details", "summary"}
ATTRIBUTES = {"style", "scope"}


@dataclass
class Table:
    caption: str = ""
    rows: list[list[str]] = field(default_factory=list)


class Page(HTMLParser):
    """HTML as a reader sees it. Refuses unclosed tags and tags that have no place in a notebook."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tables: list[Table] = []
        self.texts: dict[str, list[str]] = {"p": [], "li": [], "summary": []}
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        assert {name for name, _ in attrs} <= ATTRIBUTES
        assert "url" not in str(dict(attrs).get("style"))
        self._open.append(tag)
        if tag == "table":
            self.tables.append(Table())
        elif tag == "tr":
            self.tables[-1].rows.append([])
        elif tag in ("td", "th"):
            self.tables[-1].rows[-1].append("")
        elif tag in self.texts:
            self.texts[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        tag = self._open[-1]
        if tag in ("td", "th"):
            self.tables[-1].rows[-1][-1] += data
        elif tag == "caption":
            self.tables[-1].caption += data
        else:
            self.texts[tag][-1] += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def words(lines: str) -> list[list[str]]:
    return [line.split() for line in lines.splitlines()]


def joined(row: Sequence[str]) -> list[str]:
    return " ".join(row).split()


def planned(**values: Any) -> Plan:
    return resolve(ClusterSpec.of(values), CATALOG, now=NOW, configured={"aws": "", "gcp": "no project", "azure": ""})


@pytest.mark.parametrize(
    "values",
    [
        {"gpus": 64, "type": "h100"},
        {"gpus": 64, "type": ["h100", "a100"], "spot": "prefer", "interconnect": "any"},
        {"type": "c6i.12xlarge", "nodes": 4},
    ],
    ids=str,
)
def test_a_plan_shows_the_figures_of_its_text_and_folds_the_reasons_away(values: dict[str, Any]) -> None:
    plan = planned(**values)
    page, text = Page(plan._repr_html_()), plan.explain(limit=10, width=None)
    candidates, reasons = page.tables
    header, *rows = candidates.rows
    lines = {line[0]: line for line in words(text) if line}
    for row in rows:
        # The text shortens names and has letters for sources.
        cells = dict(zip(header, row, strict=True))
        assert {cells[name] for name in ("$/h", "$/acc-h", "price date") if name in cells} <= {*lines[cells["#"]]}
    shown = [plan[int(row[0]) - 1] for row in rows]
    assert [dict(zip(header, row, strict=True))["nodes"] for row in rows] == [
        f"{candidate.nodes} x {candidate.instance_type}" for candidate in shown
    ]
    assert len(rows) >= min(10, len({(each.region, each.instance_type, each.hourly_cost) for each in plan}))
    assert {each.provider for each in shown} == {each.provider for each in plan}
    assert page.texts["p"][0] == text.splitlines()[0]
    assert set(plan.notes) <= set(page.texts["li"])
    assert page.texts["summary"] == [line for line in text.splitlines() if line.startswith("rejected offers ")]
    counts = {row[1]: int(row[0].replace(",", "")) for row in reasons.rows[1:]}
    assert counts == {reason: rejection.count for reason, rejection in plan.rejected.items()}


def test_a_plan_without_candidates_shows_the_nearest_change_and_the_reasons() -> None:
    plan = planned(gpus=64, type="h100", max_price=3.9)
    page = Page(plan._repr_html_())
    assert page.texts["p"][:2] == ["64 x h100: no candidate", f"nearest: {plan.nearest}"]
    assert [table.rows[0][:2] for table in page.tables] == [["offers", "reason"]]


def test_text_from_tables_and_clouds_is_escaped_in_a_plan() -> None:
    offer = Offer(
        InstanceType(HOSTILE, HOSTILE, "h100", 8), HOSTILE, "", "spot", Quote(8, date(2026, 1, 1), HOSTILE, "estimate")
    )
    plan = Plan(
        ClusterSpec(gpus=8, type=("h100",)),
        (Candidate((Part(offer, 1),)),),
        {HOSTILE: Rejection(1, (HOSTILE,))},
        notes=(HOSTILE,),
    )
    candidates, reasons = Page(plan._repr_html_()).tables
    assert candidates.rows[1][1:3] == [f"{HOSTILE} {HOSTILE}", f"1 x {HOSTILE}"]
    assert reasons.rows[1] == ["1", HOSTILE, HOSTILE]


def test_a_cluster_shows_what_the_command_show_prints(
    fake_cloud: FakeCloud, capsys: pytest.CaptureFixture[str]
) -> None:
    tags = {"team": "nlp", "run": "7"}
    with Cluster.request(gpus=16, type="h100", name="train", ttl="12h", tags=tags, clouds=["aws"]) as cluster:
        fake_cloud.advance("90m")
        cluster.refresh()
        page = Page(cluster._repr_html_())
        assert main(["show", "train", "--wide"]) == 0
        shown = words(capsys.readouterr().out)
        facts, nodes = page.tables
        assert (facts.caption, nodes.caption) == ("cluster", "nodes")
        for row in [*facts.rows, *nodes.rows[1:]]:
            assert joined(row) in shown
        assert ["cost", "$110.08 per hour, $166.04 so far"] in facts.rows
        assert [row[1] for row in nodes.rows[1:]] == fake_cloud.aws.running_ids()
    assert fake_cloud.alive() == []


def test_a_node_shows_its_state_place_and_addresses_and_has_a_short_repr(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", clouds=["aws"]) as cluster:
        node = cluster.head
        (facts,) = Page(node._repr_html_()).tables
        assert dict(facts.rows) == {
            "rank": "0",
            "id": node.id,
            "state": "running",
            "place": f"aws {node.zone}",
            "instance type": node.instance_type,
            "accelerators": "8",
            "private address": node.private_ip,
            "public address": node.public_ip or "-",
            "cost": "$55.04 per hour",
        }
        assert repr(node) == f"<Node 0 {node.id} running in aws {node.zone} {node.instance_type}>"
    path = "/subscriptions/1/resourceGroups/g/providers/Microsoft.Compute/virtualMachineScaleSets/s/virtualMachines/3@x"
    assert repr(replace(node, id=path)).startswith("<Node 0 s/3 running ")


def test_a_cluster_that_has_ended_shows_why_and_no_nodes(fake_cloud: FakeCloud) -> None:
    with pytest.raises(ZeroDivisionError), Cluster.request(gpus=8, type="h100", ttl=None, name="train"):
        raise ZeroDivisionError("<b>")
    (facts,) = Page(Cluster.get("train")._repr_html_()).tables
    assert dict(facts.rows)["state"] == "TERMINATED"
    assert dict(facts.rows)["why"] == "its with block was left by ZeroDivisionError('<b>')"
    assert (dict(facts.rows)["expires"], dict(facts.rows)["tags"]) == ("never", "-")
    assert fake_cloud.alive() == []


def test_text_from_users_and_clouds_is_escaped_in_a_cluster(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", tags={"team": HOSTILE}, clouds=["aws"]) as cluster:
        ledger = fake_cloud.session.ledger
        (node,) = ledger.nodes(cluster.id)
        ledger.put_nodes(cluster.id, [replace(node, zone=HOSTILE, private_ip=HOSTILE, instance_type=HOSTILE)])
        facts, nodes = Page(cluster._repr_html_()).tables
        assert dict(facts.rows)["tags"] == f"team={HOSTILE}"
        assert nodes.rows[1].count(HOSTILE) == 3
    assert fake_cloud.alive() == []


@pytest.mark.parametrize("options", [[], ["--since", "1h"], ["--by", "tag:team"], ["--by", "day"]], ids=" ".join)
def test_a_cost_report_shows_what_the_command_cost_prints(
    fake_cloud: FakeCloud, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    with (
        Cluster.request(gpus=8, type="h100", name="small", budget=200, tags={"team": "nlp"}),
        Cluster.request(gpus=24, type="h100", name="big", ttl=None),
    ):
        fake_cloud.advance("150m")
        asked = {key.removeprefix("--"): value for key, value in zip(options[::2], options[1::2], strict=True)}
        found = report(fake_cloud.session, **asked)
        page = Page(found._repr_html_())
        assert main(["cost", *options]) == 0
        out, err = capsys.readouterr()
        shown = [[word for word in line if set(word) != {"#"}] for line in words(out)]
        spent, to_come = page.tables
        assert len(spent.rows) == len(found.rows) + 2
        for row in [*spent.rows, *to_come.rows]:
            assert joined(row) in shown
        assert spent.rows[-1][0] == "total"
        assert [row[0] for row in to_come.rows[1:]] == ["small", "big"]
        assert page.texts["li"] == err.splitlines() != []
    assert fake_cloud.alive() == []


def test_a_cost_report_without_costs_states_that(fake_cloud: FakeCloud) -> None:
    assert Page(report(fake_cloud.session)._repr_html_()).texts["p"] == ["nothing was spent"]
    page = Page(report(fake_cloud.session, since="1d")._repr_html_())
    assert page.texts["p"] == ["nothing was spent since 2026-12-31T00:00:00Z"]


def test_text_from_users_is_escaped_in_a_cost_report(fake_cloud: FakeCloud) -> None:
    with Cluster.request(gpus=8, type="h100", tags={"team": HOSTILE}, clouds=["aws"]):
        fake_cloud.advance("1h")
        spent = Page(report(fake_cloud.session, by="tag:team")._repr_html_()).tables[0]
        assert [row[0] for row in spent.rows] == ["team", HOSTILE, "total"]
    assert fake_cloud.alive() == []


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))


@given(TEXTS, st.lists(st.tuples(TEXTS, TEXTS), max_size=3))
def test_a_reader_sees_exactly_the_text_of_each_cell(text: str, rows: list[tuple[str, str]]) -> None:
    table = html_table(text, ("a", "b"), [*rows, ("x", "y")], right=frozenset({1}), total=(text, text))
    page = Page(html_folded(text, table) + html_facts(text, [(text, text)]) + html_list([text]) + html_paragraph(text))
    assert page.tables[0].rows == [["a", "b"], *map(list, rows), ["x", "y"], [text, text]]
    assert page.tables[1].rows == [[text, text]]
    assert [table.caption for table in page.tables] == [text, text]
    assert page.texts == {"p": [text], "li": [text], "summary": [text]}
