"""The text and HTML of options."""

import re
from datetime import timedelta
from typing import Any

from multicompute.sizing import Inference, JobLimits, JobOptions, Training, optimise
from multicompute.sizing.text import (
    HEADERS,
    WIDTH,
    hours_text,
    reason_blocks,
    render,
    render_html,
    risk,
    rows,
    why_not_fewer,
    why_not_others,
)
from tests.unit.sizing.machines import machine

JOB = Training(params=70e9, tokens=2e12)
MACHINES = [
    machine("h100", 8, price=55.0, fabric="fast"),
    machine("h100", 8, price=20.0, fabric="fast", purchase="spot", basis="estimate"),
    machine("a100-80gb", 8, price=27.0, fabric="fast"),
    machine("t4", 1, price=0.5),
    machine("rtx-pro-4500", 8, price=10.0),
]


def plan(**limits: Any) -> JobOptions:
    return optimise(JOB, MACHINES, JobLimits(**{"deadline": timedelta(days=60), **limits}))


def test_a_row_has_what_a_decision_needs() -> None:
    shown = rows(plan())
    assert all(len(row) == len(HEADERS) for row in shown)
    first = dict(zip(HEADERS, shown[0], strict=True))
    assert first["nodes"].endswith("x 8xh100-fast")
    assert first["accelerators"].endswith("h100")
    assert first["cost"].startswith("$")
    assert "lost" in first["purchase and risk"]
    assert "estimate" in first["purchase and risk"]
    assert first["GiB"].endswith("/80")
    found = re.fullmatch(r"(\d+)% \((\d+)-(\d+)%\)", first["MFU"])
    assert found is not None
    expected, low, high = map(int, found.groups())
    assert low <= expected <= high


def test_the_cheapest_of_each_accelerator_is_shown() -> None:
    text = "\n".join(" ".join(row) for row in rows(plan(), limit=6))
    assert "h100" in text
    assert "a100-80gb" in text
    assert len(rows(plan(), limit=6)) <= 6


def test_the_text_has_no_long_lines_and_says_what_was_guessed() -> None:
    text = render(plan(), reasons=True)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "guessed from the parameter count: layers, hidden" in text
    assert "why not other accelerators:" in text
    assert "rtx-pro-4500: no peak in bf16 is published" in text
    assert str(plan()) == render(plan())


def test_fewer_nodes_are_too_slow_do_not_fit_or_are_no_cheaper() -> None:
    found = plan()
    assert found.best is not None
    assert "longer than 60.0 d" in why_not_fewer(found, found.best)
    small = optimise(JOB, MACHINES[:1], JobLimits(max_accelerators=64, deadline=timedelta(days=3650)))
    assert small.best is not None
    assert "GiB are needed on each, 75.2 GiB are usable" in why_not_fewer(small, small.best)
    fast = found.options[found.pareto[-1]]
    assert "instead of" in why_not_fewer(found, fast)
    one = optimise(Inference(params=8e9), MACHINES[:1])
    assert one.best is not None
    assert why_not_fewer(one, one.best) == ""


def test_other_accelerators_cost_more_or_are_left_out() -> None:
    lines = why_not_others(plan())
    assert any(line.startswith("a100-80gb: +") for line in lines)
    assert any(line.startswith("t4: ") for line in lines)


def test_a_job_that_nothing_can_run_says_why() -> None:
    none = optimise(JOB, MACHINES, JobLimits(deadline=timedelta(minutes=5)))
    assert none.best is None
    text = render(none, reasons=True)
    assert "nothing can run this job within the limits" in text
    assert "not done by the deadline" in text
    assert "why not fewer" not in reason_blocks(none)


def test_what_does_not_fit_is_marked() -> None:
    small = plan(gpus=8)
    assert "the model does not fit on so many accelerators" in render(small)
    assert "!: does not fit" in render(small)


def test_html_escapes_and_folds_the_reasons() -> None:
    html = plan()._repr_html_()
    assert html == render_html(plan())
    assert "<table>" in html
    assert "<details><summary>why not other accelerators</summary>" in html


def test_times_are_minutes_hours_or_days() -> None:
    assert [hours_text(hours) for hours in (0.001, 0.25, 1.0, 47.9, 48.0, 1000.0)] == [
        "< 1 min",
        "15 min",
        "1.0 h",
        "47.9 h",
        "2.0 d",
        "41.7 d",
    ]


def test_a_replica_that_spans_nodes_is_a_risk() -> None:
    machines = [machine("h100", 1, price=7.0, fabric="fast"), machine("h100", 8, price=60.0)]
    spanning, inside = optimise(Inference(params=70e9), machines).options
    assert risk(spanning) == "a replica spans 2 nodes"
    assert risk(inside) == ""


def test_fewer_nodes_of_a_served_model_are_too_slow() -> None:
    found = optimise(Inference(params=8e9, concurrency=16, tokens_per_second=50_000), MACHINES[:1])
    assert found.best is not None
    assert found.best.nodes > 1
    assert why_not_fewer(found, found.best).endswith("x h100 generate less than 50,000 tokens/s")


def test_times_that_look_the_same_get_more_digits() -> None:
    found = optimise(Training(params=7e9, tokens=1e12, mfu=0.4), MACHINES[:1], JobLimits(deadline=timedelta(days=3)))
    assert found.best is not None
    took, _, limit = why_not_fewer(found, found.best).partition(", longer than ")
    assert took.rpartition(" take ")[2] != limit


def test_the_legend_explains_only_what_is_drawn() -> None:
    wide, narrow = render(plan(), width=120), render(plan(), width=70)
    assert "MFU: expected" in wide
    assert "MFU: expected" not in narrow
    assert "1,139 GiB before any split" in wide


def test_an_option_is_shown_in_one_line() -> None:
    best = plan().best
    assert best is not None
    assert re.fullmatch(r"<Option \d+ x 8xh100-fast, spot in fake r1-a: [\d.]+ d, \$[\d,]+(\.\d\d)?>", repr(best))
