"""The plan of a workload: a plan whose candidates do the job, with the figures of the job on each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.plan import Plan
from multicompute.sizing.options import JobOptions, Option

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, repr=False)
class JobPlan(Plan):
    """The candidates that do a workload, the cheapest job first, with its time, cost and fit on each.

    A candidate is the cheapest option of a machine in one zone; its `hours` and `total_cost` are those of the complete job.

    Attributes:
        found: The options of the job, and why other machines are none.
    """

    found: JobOptions = field(kw_only=True)

    @property
    def options(self) -> Sequence[Option]:
        """The hours, cost and fit on each machine, the cheapest first."""
        return self.found.options

    @property
    def pareto(self) -> tuple[int, ...]:
        """Indices of the options that no other one beats in cost or time without being worse in the other."""
        return self.found.pareto

    def plot(self, path: str | Path | None = None) -> "Figure":
        """Draw cost against time; see `Plan.plot`."""
        return self.found.plot(path)

    def render(
        self,
        *,
        limit: int = 20,
        reasons: bool = True,
        width: int | None = 80,
        spelled: "Callable[[str], str]" = str,
    ) -> str:
        """Return the options as text, as `Plan.render` does the candidates."""
        from multicompute.sizing.text import render

        return render(self.found, limit=limit, reasons=reasons, width=width, notes=tuple(map(spelled, self.notes)))

    def _repr_html_(self) -> str:
        from multicompute.sizing.text import render_html

        return render_html(self.found, notes=self.notes)

    def to_dict(self) -> dict[str, object]:
        """Return the form that the command line prints as JSON."""
        return {
            **Plan.to_dict(self),
            "options": [option.to_dict() for option in self.options],
            "pareto": list(self.pareto),
        }
