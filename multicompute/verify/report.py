"""The report of a run, as Markdown and as JSON, without anything that identifies the account."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import PackageNotFoundError, requires, version
from re import match
from typing import TYPE_CHECKING

from multicompute._version import __version__
from multicompute.units import format_instant
from multicompute.verify.findings import Finding, Status
from multicompute.verify.purchase import usd

if TYPE_CHECKING:
    from multicompute.provider import ProviderPlugin
    from multicompute.verify.purchase import Purchase


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a verification.

    Attributes:
        cloud: The name of the provider.
        purchase: The machine, and the most that the run could cost.
        started_at: When the run began, in UTC.
        seconds: How long it took.
        spent: USD for the nodes.
        findings: One for each check.
        versions: The versions of this package, of Python, and of the SDK.
        is_refused: Whether the cloud could not be asked.
        left: The names of the clusters of which something is left.
    """

    cloud: str
    purchase: "Purchase"
    started_at: datetime
    seconds: float
    spent: float
    findings: tuple[Finding, ...]
    versions: Mapping[str, str]
    is_refused: bool = False
    left: tuple[str, ...] = field(default=())

    @property
    def failed(self) -> tuple[str, ...]:
        """The names of the checks that failed."""
        return tuple(finding.name for finding in self.findings if finding.status is Status.FAILED)

    @property
    def result(self) -> str:
        """The result in a few words."""
        if self.left:
            return "something is left in the cloud"
        if self.is_refused:
            return "the cloud could not be asked"
        return f"{len(self.failed)} checks failed" if self.failed else "passed"

    def to_dict(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "cloud": self.cloud,
            "result": self.result,
            "passed": self.result == "passed",
            "failed": list(self.failed),
            "left": list(self.left),
            **self.purchase.to_dict(),
            "spent_usd": round(self.spent, 6),
            "started_at": format_instant(self.started_at),
            "seconds": round(self.seconds, 1),
            "versions": dict(self.versions),
            "checks": [finding.to_dict() for finding in self.findings],
        }

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        bought = self.purchase
        facts = (
            ("result", self.result),
            ("machine", f"{bought.offer.instance_type} in {bought.offer.region}, {bought.offer.purchase}"),
            ("price", f"{usd(bought.hourly_cost)} per node-hour"),
            ("spent", f"{usd(self.spent)} of at most {usd(bought.at_most)}"),
            ("started", f"{format_instant(self.started_at)}, took {self.seconds:.0f} s"),
            ("versions", ", ".join(f"{name} {number}" for name, number in self.versions.items())),
        )
        rows = [(each.name, each.status.value, f"{each.seconds:.1f}", each.text) for each in self.findings]
        return "\n\n".join(
            (
                f"# Verification of {self.cloud}: {self.result}",
                _table(("", ""), facts),
                _table(("check", "result", "seconds", "finding"), rows),
            )
        )


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def versions_of(plugin: "ProviderPlugin") -> dict[str, str]:
    """Return the versions of this package, of Python, and of the distributions that the extra of a provider installs."""
    found = {"multicompute": __version__, "Python": platform.python_version()}
    for requirement in _requirements():
        name = match(r"[\w.-]+", requirement)
        if name is not None and f'extra == "{plugin.extra}"' in requirement.replace("'", '"'):
            try:
                found[name[0]] = version(name[0])
            except PackageNotFoundError:
                found[name[0]] = "not installed"
    return found


def _requirements() -> Sequence[str]:
    try:
        return requires("multicompute") or ()
    except PackageNotFoundError:
        # Run from a source tree that is not installed.
        return ()
