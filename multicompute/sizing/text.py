"""Shows the options of a job to people: as rows of a table, plain text, HTML, and reasons."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from multicompute.plan_text import PURCHASE_WORDS
from multicompute.sizing.memory import GIB, usable_memory
from multicompute.text import Narrowing, table, wrap
from multicompute.units import counted, format_usd
from multicompute.workloads.description import Inference

if TYPE_CHECKING:
    from multicompute.sizing.options import JobOptions, Option
    from multicompute.sizing.report import Sizing

HEADERS: Final = ("", "nodes", "accelerators", "place", "time", "cost", "MFU", "GiB", "purchase and risk")
"""The columns of `rows`: MFU as expected, lowest and highest; GiB as used and in all on each accelerator."""
RIGHT: Final = frozenset({4, 5})
NARROWING: Final = Narrowing(prose="purchase and risk", drop=("GiB", "MFU", "accelerators"), shorten=("place", "nodes"))
NARROWER: Final = NARROWING._replace(prose="", drop=(*NARROWING.drop, "purchase and risk"))
"""The same where less than `_ROOM` characters are left, which is too little for a column of prose."""
_ROOM: Final = 76
WIDTH: Final = 120
"""Characters of a line of the table by default."""
_PROSE: Final = 100
"""Characters of other lines at most."""
LEGEND: Final = {
    "*": "nothing else is cheaper without being slower",
    "MFU": "expected, and from lowest to highest; published runs set the range",
    "!": "does not fit",
    "lost": "share of the time lost to preemptions and failures",
    "no fabric": "no RDMA network between the nodes, the MFU is an assumption",
    "estimate": "no list price is known",
}
"""The meaning of the marks in a row."""
SHOWN: Final = 12
_RISK_LIMIT: Final = 0.05
_SOON: Final = 2.0
"""Hours of a job next to which the time that a launch takes matters."""


def summary(sizing: "Sizing") -> list[str]:
    """Return the figures of a workload on one accelerator, a sentence each."""
    name, memory = sizing.accelerator.name, sizing.job.footprint
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "activations": memory.activations + memory.working + memory.logits,
        "KV cache": memory.kv_cache,
    }
    shown = ", ".join(f"{part} {_amount(size / GIB)}" for part, size in parts.items() if size)
    room = usable_memory(sizing.accelerator.memory_gib) / GIB
    least = f"at least {sizing.min_accelerators:,} x {name}" if sizing.min_accelerators else f"no number of {name}"
    fit = "" if sizing.fits else ", which does not fit"
    return [
        f"memory: {_amount(memory.total / GIB)} GiB before any split: {shown}",
        f"fit: {least}; on {sizing.count:,}, each holds {sizing.per_accelerator / GIB:.1f} of {room:.1f} usable GiB{fit}",
        *(_served(sizing) if isinstance(sizing.workload, Inference) else _trained(sizing)),
    ]


def _served(sizing: "Sizing") -> list[str]:
    replica, layout = sizing.replica, sizing.layout
    bound = "memory bandwidth" if replica.is_bandwidth_bound else "arithmetic"
    text = (
        f"throughput: {_amount(sizing.tokens_per_second)} tokens/s on {sizing.count:,}, in replicas of {layout.accelerators}; a token "
        f"takes {replica.decode_step_seconds * 1e3:.1f} ms, bound by {bound}, and a prompt {replica.prefill_seconds:.3g} s"
    )
    return [text]


def _trained(sizing: "Sizing") -> list[str]:
    mfu, needs, loading = sizing.mfu, sizing.storage, sizing.loading
    share = f"{_share(mfu.expected)} (given)"
    if mfu.base.basis != "given":
        share = f"{_share(mfu.expected)} ({_share(mfu.low)} to {_share(mfu.high)})"
    check = "holds the job up" if loading.is_bound else "does not hold the job up"
    storage = (
        f"storage: {_amount(needs.checkpoint_bytes / GIB)} GiB for a checkpoint, {_amount(needs.checkpoints_bytes / GIB)} for all that "
        f"are kept, {_amount(needs.source_bytes / GIB)} for the data"
    )
    reading = (
        f"loading: {sizing.count:,} read {loading.needed_bytes_per_second / 1e6:,.3g} of "
        f"{loading.available_bytes_per_second / 1e6:,.0f} MB/s: the storage {check}"
    )
    time = f"time: {_amount(sizing.accelerator_hours)} hours of one {sizing.accelerator.name} at an MFU of {share}"
    return [time, storage, reading]


def _amount(amount: float) -> str:
    return f"{amount:,.0f}" if amount >= 1000 else f"{amount:.4g}"


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.095 else f"{share:.2g}" if share < 0.0005 else f"{share:.1%}"


def selected(plan: "JobOptions", limit: int) -> list[int]:
    """Return the indices of the options to show: the front, and the cheapest of each accelerator, at most `limit`."""
    chosen = dict.fromkeys((0,)) if plan.options else {}
    seen: set[str] = set()
    for index, option in enumerate(plan.options):
        if option.accelerator not in seen:
            seen.add(option.accelerator)
            chosen.setdefault(index)
        if len(seen) >= limit // 2:
            break
    front = plan.pareto
    room = max(0, limit - len(chosen))
    step = max(1, math.ceil(len(front) / room)) if room else len(front) + 1
    for index in (*front[::step], *front[-1:]):
        chosen.setdefault(index)
    return sorted(chosen)[:limit]


def rows(plan: "JobOptions", limit: int = SHOWN) -> list[tuple[str, ...]]:
    """Return the options that a person decides between as cells under `HEADERS`; "*" marks the front of cost and time."""
    front = frozenset(plan.pareto)
    return [_row(plan.options[index], is_front=index in front) for index in selected(plan, limit)]


def _row(option: "Option", *, is_front: bool) -> tuple[str, ...]:
    done, offer = option.performance, option.machine.offer
    low, high = option.on.mfu_range(done)
    used = option.job.footprint.per_accelerator(done.layout) / GIB
    return (
        "*" if is_front else "",
        f"{done.nodes:,} x {offer.instance.name}",
        f"{done.accelerators:,} {option.accelerator}",
        f"{offer.provider} {offer.zone or offer.region}",
        hours_text(done.hours),
        f"${option.total_usd:,.0f}" if option.total_usd >= 100 else f"${option.total_usd:,.2f}",
        _share(done.mfu) if low == high else f"{_share(done.mfu)} ({_share(low)[:-1]}-{_share(high)})",
        f"{used:.0f}/{option.on.shape.accelerator.memory_gib:g}" + ("" if done.fits else "!"),
        ", ".join(filter(None, (PURCHASE_WORDS[offer.purchase], risk(option)))),
    )


def hours_text(hours: float, digits: int = 1) -> str:
    """Write a time: minutes, hours up to two days, else days."""
    if hours < 1 / 60:
        return "< 1 min"
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.{digits}f} h" if hours < 48 else f"{hours / 24:,.{digits}f} d"


def risk(option: "Option") -> str:
    """Return why an option may be slower or more expensive than predicted, in a few words."""
    done, offer = option.performance, option.machine.offer
    found = []
    if option.is_spot or 1 - done.goodput > _RISK_LIMIT:
        found += [f"{1 - done.goodput:.0%} lost"] if done.goodput < 1 else []
    if done.nodes > 1 and not option.on.shape.fabric and option.on.shape.accelerator.kind != "tpu":
        found.append("no fabric")
    each = -(-done.layout.tensor * done.layout.pipeline // option.on.shape.per_node)
    if isinstance(option.job.workload, Inference) and each > 1:
        found.append(f"a replica spans {each} nodes")
    if offer.quote.basis == "estimate":
        found.append("estimate")
    return ", ".join(found)


def why_not_fewer(plan: "JobOptions", option: "Option") -> str:
    """Return why one node less would not do, or what it would cost; "" for a single node."""
    nodes, done = option.nodes - 1, option.performance
    if nodes < 1:
        return ""
    count = nodes * option.on.shape.per_node
    name = f"{count:,} x {option.accelerator}"
    fewer = option.on.performance(nodes, option.preemptions)
    if fewer is None:
        return f"{name} {_why_not(option, nodes)}"
    if fewer.hours > plan.limits.max_hours:
        digits = 1 if hours_text(fewer.hours) != hours_text(plan.limits.max_hours) else 3
        return f"{name} take {hours_text(fewer.hours, digits)}, longer than {hours_text(plan.limits.max_hours, digits)}"
    before = option.total_usd
    after = fewer.hours * option.machine.hourly_usd(nodes) + option.machine.transfer_usd
    change = f"cost {after / before - 1:+.1%}" if before and abs(after / before - 1) > 5e-4 else "cost the same"
    return f"{name} {change} and take {hours_text(fewer.hours)} instead of {hours_text(done.hours)}"


def _why_not(option: "Option", nodes: int) -> str:
    """Return why a job can't be done on so few nodes: for want of memory or, if it is served, of speed."""
    workload, count = option.job.workload, nodes * option.on.shape.per_node
    replica = option.layout.tensor * option.layout.pipeline
    if isinstance(workload, Inference) and workload.tokens_per_second and count >= replica:
        return f"generate less than {workload.tokens_per_second:,.0f} tokens/s"
    layout = option.job.tightest(count, option.on.shape.per_node)
    needed = option.job.footprint.per_accelerator(layout) / GIB
    room = usable_memory(option.on.shape.accelerator.memory_gib) / GIB
    return f"do not fit: {needed:.1f} GiB are needed on each, {room:.1f} GiB are usable"


def why_not_others(plan: "JobOptions") -> list[str]:
    """Return what each accelerator but the cheapest one's costs more, and why the others are left out."""
    best = plan.best
    lines = []
    seen = {best.accelerator} if best else set()
    for option in plan.options:
        if option.accelerator in seen or best is None:
            continue
        seen.add(option.accelerator)
        more = f"{option.total_usd / best.total_usd - 1:+.0%}" if best.total_usd else "more"
        count = option.performance.accelerators
        lines.append(f"{option.accelerator}: {more}, {count:,} of them take {hours_text(option.hours)}")
    left: dict[str, list[str]] = {}
    for name, why in plan.outcomes.items():
        if name and name not in seen:
            left.setdefault(why, []).append(name)
    return lines + [f"{', '.join(names)}: {why}" for why, names in left.items()]


def heading(plan: "JobOptions") -> str:
    """Return the job in one sentence."""
    workload = plan.job.workload
    form = workload.weight_format if isinstance(workload, Inference) else None
    what = f"{workload} in {form or workload.precision}"
    return f"{what}: {plan.job.flops:.3g} FLOP, {plan.job.footprint.total / GIB:,.0f} GiB before any split"


def answer(option: "Option") -> str:
    """Return an option in one line: nodes, purchase, place, time and cost."""
    offer = option.machine.offer
    where = f"{PURCHASE_WORDS[offer.purchase]} in {offer.provider} {offer.zone or offer.region}"
    time, cost = hours_text(option.hours), format_usd(option.total_usd)
    return f"{option.nodes:,} x {offer.instance.name}, {where}: {time}, {cost}"


def job_notes(plan: "JobOptions") -> list[str]:
    """Return what a reader should know: what was guessed, and what the figures rest on."""
    workload = plan.job.workload
    found = []
    if workload.assumed:
        found.append(f"guessed from the parameter count: {', '.join(workload.assumed)}")
    if workload.mfu is None and not isinstance(workload, Inference):
        found.append("the MFU is expected from published runs of similar jobs")
    if workload.mfu is not None and plan.limits.gpus is None:
        found.append("at a given MFU the cost does not depend on the count: the smallest that is enough is shown")
    if isinstance(workload, Inference) and workload.tokens is None:
        found.append(f"the cost is that of serving for {hours_text(plan.limits.serve.total_seconds() / 3600)}")
    if any(option.hours < _SOON for option in plan.options[: 2 * SHOWN]):
        found.append("the time until the nodes are ready is not counted")
    if not plan.options:
        found.append("nothing can run this job within the limits")
    elif not plan.options[0].performance.fits:
        found.append("the model does not fit on so many accelerators")
    return found


def render(
    plan: "JobOptions",
    *,
    limit: int = SHOWN,
    reasons: bool = False,
    width: int | None = WIDTH,
    notes: Sequence[str] = (),
) -> str:
    """Return the options as text.

    Args:
        plan: What to show.
        limit: How many options.
        reasons: Whether to explain why fewer nodes or other accelerators are not proposed.
        width: The maximum number of characters per line; columns that do not fit are left out. None shows all columns.
        notes: Notes to show in addition to those about the job.
    """
    prose = min(width or _PROSE, _PROSE)
    blocks = ["\n".join(wrap(heading(plan), width=prose))]
    shown = rows(plan, limit)
    if shown:
        narrowing = NARROWING if width is None or width >= _ROOM else NARROWER
        drawn = table(HEADERS, shown, right=RIGHT, width=width, narrowing=narrowing)
        legend = [*_legend(shown, drawn.partition("\n")[0]), *_more(plan, shown)]
        blocks += [drawn, "\n".join(part for line in legend for part in wrap(line, rest="  ", width=prose))]
    every = [line for note in (*job_notes(plan), *notes) for line in wrap(note, first="- ", rest="  ", width=prose)]
    blocks.append("\n".join(every))
    if reasons:
        blocks += [_lines(title, lines, prose) for title, lines in reason_blocks(plan).items()]
    return "\n\n".join(block for block in blocks if block)


def _more(plan: "JobOptions", shown: Sequence[object]) -> list[str]:
    more = len(plan.options) - len(shown)
    return [f"... and {more:,} more options"] if more > 0 else []


def _legend(shown: Sequence[Sequence[str]], headers: str) -> list[str]:
    """Return the meanings of the marks that occur in `shown`, and of columns that are among the headers."""
    marks = " ".join(cell for row in shown for cell in (row[0], *row[7:]))
    ranges = any("(" in row[6] for row in shown) and "MFU" in headers
    return [f"{mark}: {meaning}" for mark, meaning in LEGEND.items() if (ranges if mark == "MFU" else mark in marks)]


def reason_blocks(plan: "JobOptions") -> Mapping[str, Sequence[str]]:
    """Return the reasons under their headings, those that there are."""
    fewer = why_not_fewer(plan, plan.best) if plan.best else ""
    left = [
        f"{counted(item.count, 'offer')}: {reason}, such as {item.examples[0]}"
        for reason, item in plan.rejected.items()
    ]
    blocks = {
        "why not fewer": [fewer] if fewer else [],
        "why not other accelerators": why_not_others(plan),
        "left out": left,
    }
    return {title: lines for title, lines in blocks.items() if lines}


def _lines(title: str, lines: Sequence[str], width: int) -> str:
    wrapped = (part for line in lines for part in wrap(line, first="  ", rest="    ", width=width))
    return "\n".join([f"{title}:", *wrapped])


def render_html(plan: "JobOptions", *, limit: int = SHOWN, notes: Sequence[str] = ()) -> str:
    """Return the plan as HTML for notebooks, with the reasons folded away."""
    from multicompute.markup import html_folded, html_list, html_paragraph, html_table

    shown = rows(plan, limit)
    blocks = [
        html_paragraph(heading(plan)),
        *([html_paragraph(f"cheapest: {answer(plan.best)}")] if plan.best and plan.best.fits else []),
        html_table("", HEADERS, shown, right=RIGHT),
        html_list([*_more(plan, shown), *_legend(shown, "MFU")]),
        html_paragraph("notes:"),
        html_list([*job_notes(plan), *notes]),
    ]
    blocks += [html_folded(title, html_list(lines)) for title, lines in reason_blocks(plan).items()]
    return "".join(blocks)
