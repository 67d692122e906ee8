"""Writes the tables of docs/troubleshooting.md from the error tree, the exit statuses and the adapters' tables of codes."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from multicompute import errors
from multicompute.cli.status import exit_status

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
MARK = "<!-- The rest is written by `make docs`. Change the code instead. -->\n"
TABLES: Mapping[str, Mapping[str, str]] = {
    "Amazon EC2 (aws)": {"multicompute_aws._errors": "MEANINGS"},
    "Google Cloud, Compute Engine (gcp)": {"multicompute_gcp._errors": "COMPUTE_MEANINGS"},
    "Google Cloud, TPU and google.rpc (gcp)": {"multicompute_gcp._errors": "TPU_MEANINGS"},
    "Microsoft Azure (azure)": {"multicompute_azure._errors": "MEANINGS"},
}
DONE = {
    "CapacityError": "remembers the lack of this instance type, bought in this way, in the place that the row names, and tries the next candidate",
    "QuotaError": "remembers the quota of this instance type, bought in this way, in the place that the row names, and tries the next candidate",
    "ThrottledError": "repeats the call after the delay that the cloud requests, and skips the region if that does not help",
    "TransientError": "repeats the call with the same token, and skips the region if that does not help",
    "AuthError": "skips what the row names for the rest of the request, and tries the next candidate. A denied region or instance type is remembered",
    "AccessDeniedError": "skips what the row names for the rest of the request, and tries the next candidate. A denied region or instance type is remembered",
    "InvalidRequestError": "skips what the row names for the rest of the request, and tries the next candidate",
    "ProviderError": "checks that nothing was launched, skips what the row names for the rest of the request, and tries other clouds first",
}
"""The engine's reaction to a refused launch. docs/architecture.md has the details, and tests/resilience/faults tests it call by call."""
SCOPES = {
    "request": "this offer",
    "type": "the instance type in the region",
    "zone": "the zone",
    "region": "the region",
    "account": "all of the cloud",
}


def tables() -> str:
    """Return the generated part of the page."""
    parts = ["\n## Errors and exit status\n\n", _table(["error", "exit status", "meaning"], _tree())]
    for title, modules in TABLES.items():
        parts.append(f"\n## {title}\n")
        for module, name in modules.items():
            parts.extend(_codes(import_module(module), getattr(import_module(module), name)))
    return "".join(parts)


def _tree() -> Iterator[list[str]]:
    for name, kind in vars(errors).items():
        if inspect.isclass(kind) and issubclass(kind, errors.MulticomputeError) and not name.startswith("_"):
            words = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
            yield [f"`{name}`", str(exit_status(kind("x"))), words]


def _codes(module: Any, meanings: Mapping[str, Sequence[Any]]) -> Iterator[str]:
    """Yield one table per kind of error, in the order of `DONE`."""
    rows: dict[str, list[list[str]]] = {kind: [] for kind in DONE}
    for code, several in meanings.items():
        for meaning in several:
            wording = getattr(meaning, "fragment", "") or getattr(meaning, "wording", "")
            scope = SCOPES[meaning.scope] + ("" if getattr(meaning, "is_offered", True) else ", for up to a day")
            rows[meaning.kind.__name__].append([f"`{code}`", _cell(wording), scope])
    for kind, found in rows.items():
        if found:
            hint = module._HINTS.get(getattr(errors, kind), "")
            yield f"\n### {kind}: {_summary(kind)}\n\nmulticompute {DONE[kind]}.\n\n"
            if hint:
                yield f"Hint in the error message: {hint}.\n\n"
            yield _table(["code", "if the message contains", "applies to"], found)


def _summary(kind: str) -> str:
    return {
        "CapacityError": "no capacity, or not offered there",
        "QuotaError": "over the account's quota",
        "ThrottledError": "too many calls",
        "TransientError": "the cloud is busy or failed",
        "AuthError": "missing or wrong credentials",
        "AccessDeniedError": "missing permission",
        "InvalidRequestError": "the request is invalid there",
        "ProviderError": "anything else, and every code that is not listed",
    }[kind]


def _cell(wording: str) -> str:
    return f"`{wording.replace('|', chr(92) + '|')}`" if wording else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """Return the complete page: the text that was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
