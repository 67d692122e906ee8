"""Writes the tables of docs/sizing.md: predictions against published runs, documented fits, and the expected MFU."""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from multicompute import accelerators
from multicompute.sizing import Finetuning, Inference, Sizing, Training, size
from multicompute.sizing.memory import USABLE_SHARE
from multicompute.sizing.mfu import DEFAULTS, base_mfu, workload_mfu
from multicompute.sizing.performance import Job

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "sizing.md"
FACTS = ROOT / "tests" / "unit" / "sizing" / "facts"
MARK = "<!-- From here on written by `make docs`; change the facts or the formulas instead. -->\n"
SEQ_LEN = 4096
"""Sequence length for which the table of expected MFU is written."""

SHAPE = ("layers", "hidden", "heads", "kv_heads", "vocab")
"""The fields that are guessed where only the parameters are given."""

Row = Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """A published training run, and what is predicted of it.

    Attributes:
        row: The line of the table of facts.
        workload: The run, at the published MFU where there is one.
        mfu: The published MFU, recomputation not counted; None where none is published.
        hours: The published accelerator-hours; None where none are.
        tolerance: How near the prediction must be, in percent; None where the source itself does not allow one.
    """

    row: Row
    workload: Training
    mfu: float | None
    hours: float | None
    tolerance: float | None

    @property
    def sizing(self) -> Sizing:
        """The figures of the run on the accelerator it used."""
        return size(self.workload, self.row["accelerator"])

    @property
    def difference(self) -> float | None:
        """Predicted less published hours, in percent, at the published MFU."""
        if self.mfu is None or self.hours is None:
            return None
        return 100 * (self.sizing.accelerator_hours / self.hours - 1)

    @property
    def guessed_difference(self) -> float | None:
        """The same, from the parameters alone: the shape of the model is guessed."""
        if self.mfu is None or self.hours is None:
            return None
        guessed = self.workload.model_copy(update=dict.fromkeys(SHAPE))
        hours = size(type(guessed)(**guessed.model_dump(exclude_none=True)), self.row["accelerator"]).accelerator_hours
        return 100 * (hours / self.hours - 1)

    @property
    def mfu_range(self) -> tuple[float, float, float]:
        """The lowest, expected and highest MFU that would be assumed if none was given."""
        unknown = self.workload.model_copy(update={"mfu": None})
        base = workload_mfu(unknown, accelerators.find(self.row["accelerator"])[0])
        return base.low, base.expected, base.high


@dataclass(frozen=True)
class Fit:
    """A documented case of memory, and the smallest count that is predicted."""

    row: Row
    count: int
    predicted: int | None

    @property
    def agrees(self) -> bool:
        """Return whether the prediction agrees with the source."""
        fits = self.predicted is not None and self.predicted <= self.count
        return fits == (self.row["verdict"] == "fits")


def _rows(name: str) -> list[Row]:
    with (FACTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _given(row: Row) -> dict[str, float]:
    names = ("params", "active_params", *SHAPE, "seq_len")
    return {name: float(row[name]) for name in names if row.get(name)}


def runs() -> Iterator[Run]:
    """Yield the published training runs."""
    for row in _rows("training_runs.csv"):
        mfu = _published_mfu(row)
        given = {**_given(row), "tokens": float(row["tokens"]), "precision": row["peak"]}
        workload = Training.model_validate(given | {"mfu": mfu})
        hours = float(row["accelerator_hours"]) if row["accelerator_hours"] else None
        yield Run(row, workload, mfu, hours, float(row["tolerance_pct"]) if row["tolerance_pct"] else None)


def _published_mfu(row: Row) -> float | None:
    if row["mfu"]:
        return float(row["mfu"])
    if not row["tflops_per_accelerator"]:
        return None
    # Papers of 2021 and 2022 count the forward pass that full recomputation repeats: 8 instead of 6 FLOPs.
    counted = 0.75 if row["flops_counted"] == "hardware" else 1.0
    accelerator = accelerators.find(row["accelerator"])[0]
    peak = accelerator.fp8_tflops if row["peak"] == "fp8" else accelerator.fp16_tflops or accelerator.bf16_tflops
    assert peak is not None
    return counted * float(row["tflops_per_accelerator"]) / peak


def workload_of(row: Row) -> Training | Finetuning | Inference:
    """Return the workload that a line of the table of memory describes."""
    given: dict[str, object] = {**_given(row)}
    given |= {"precision": row["precision"]} if row["precision"] else {}
    if row["task"] == "inference":
        given |= {"context": row["context"], "concurrency": row["batch"]}
        given |= {name: row[name] for name in ("quantization", "kv_precision") if row[name]}
        return Inference.model_validate(given)
    names = {"context": "seq_len", "batch": "micro_batch", "recompute": "recompute"}
    given |= {"tokens": 1e9} | {name: row[column] for column, name in names.items() if row[column]}
    given |= {"zero": int(row["zero"])} if row["zero"] else {}
    if row["task"] == "training":
        return Training.model_validate(given)
    return Finetuning.model_validate(given | {"method": row["method"]})


def fits() -> Iterator[Fit]:
    """Yield the cases in which a source says that a model fits, or that it does not."""
    for row in _rows("memory_fits.csv"):
        if row["verdict"] == "value":
            continue
        memory = accelerators.find(row["accelerator"])[0].memory_gib
        yield Fit(row, int(row["count"]), Job(workload_of(row)).min_accelerators(memory))


ABOUT_RUNS = """
## Against published runs

Accelerator-hours predicted at the published MFU, and the range that is assumed where none is given. Hours of runs with a tolerance of 25 % include
restarts; where there is no tolerance, the source gives no MFU, or figures that contradict each other. The column "from params alone" is the
difference where nothing but the number of parameters is given, and the rest of the model is guessed.

"""
ABOUT_FITS = f"""
## Against documented fits

Usable are {USABLE_SHARE:.0%} of an accelerator's memory. Where the prediction disagrees, the row says why the source is no rule.

"""
ABOUT_MFU = f"""
## Expected MFU

For sequences of {SEQ_LEN:,} tokens, before what count, network and layout take.

"""


def tables() -> str:
    """Return the generated part of the page."""
    compared = ["run", "accelerator", "published hours", "predicted", "difference", "from params alone", "tolerance"]
    compared += ["MFU", "default range"]
    fitted = ["case", "documented", "on", "smallest count predicted", "agrees", "source"]
    expected = ["accelerators", "precision", "kind", "expected", "range", "runs", "basis"]
    parts = [ABOUT_RUNS, _table(compared, map(_run_cells, runs())), ABOUT_FITS, _table(fitted, map(_fit_cells, fits()))]
    return "".join([*parts, ABOUT_MFU, _table(expected, _mfu_cells())])


def _run_cells(run: Run) -> list[str]:
    difference, guessed, tolerance = run.difference, run.guessed_difference, run.tolerance
    low, _, high = run.mfu_range
    return [
        run.row["model"],
        run.row["accelerator"],
        f"{run.hours:,.0f}" if run.hours else "",
        f"{run.sizing.accelerator_hours:,.0f}" if run.mfu else "",
        f"{difference:+.1f} %" if difference is not None else "",
        f"{guessed:+.1f} %" if guessed is not None else "",
        f"{tolerance:.0f} %" if tolerance else "",
        f"{run.mfu:.1%}" if run.mfu else "",
        f"{low:.0%} to {high:.0%}",
    ]


def _fit_cells(fit: Fit) -> list[str]:
    row = fit.row
    how = ", ".join(part for part in (row["task"], row["method"], row["quantization"] or row["precision"]) if part)
    return [
        f"{row['model']}, {how}, {row['context'] or SEQ_LEN} tokens x {row['batch'] or 1}",
        row["verdict"].replace("_", " "),
        f"{fit.count} x {row['accelerator']}",
        str(fit.predicted),
        "yes" if fit.agrees else f"no: {row['notes']}",
        re.split(r";(?![^()]*\))", row["source"])[0],
    ]


def _mfu_cells() -> Iterator[list[str]]:
    with DEFAULTS.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            precision = "bf16" if row["precision"] == "*" else row["precision"]
            base = base_mfu(row["family"], precision, row["kind"], SEQ_LEN)
            yield [
                "all others" if row["family"] == "*" else f"`{row['family']}`",
                "any" if row["precision"] == "*" else row["precision"],
                row["kind"],
                f"{base.expected:.0%}",
                f"{base.low:.0%} to {base.high:.0%}",
                str(len(base.runs)),
                f"{row['basis']}: {row['reason']}",
            ]


def _table(titles: Sequence[str], rows: Iterable[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """Return the complete page: what was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
