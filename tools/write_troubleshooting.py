"""Writes the tables of docs/troubleshooting.md from the error tree, the exit statuses and the adapters' tables of codes."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from multicompute import errors
from multicompute.cli.status import exit_status

PAGE = Path(__file__).parents[1] / "docs" / "troubleshooting.md"
MARK = "<!-- From here on written by `make docs`; change the code instead. -->\n"
TABLES: Mapping[str, Mapping[str, str]] = {
    "Amazon EC2 (aws)": {"multicompute_aws._errors": "MEANINGS"},
    "Google Cloud, Compute Engine (gcp)": {"multicompute_gcp._errors": "COMPUTE_MEANINGS"},
    "Google Cloud, TPU and google.rpc (gcp)": {"multicompute_gcp._errors": "TPU_MEANINGS"},
    "Microsoft Azure (azure)": {"multicompute_azure._errors": "MEANINGS"},
}
DONE = {
    "CapacityError": "the request goes on to the next candidate",
    "QuotaError": "the request goes on to the next candidate outside that quota",
    "ThrottledError": "the same call again, after the wait that was asked for",
    "TransientError": "the same call again, with the same token",
    "AuthError": "this cloud is done; others go on",
    "AccessDeniedError": "this cloud is done; others go on",
    "InvalidRequestError": "stops: it would be as wrong elsewhere",
    "ProviderError": "stops, with the cloud's words",
}
"""What the engine does by itself; docs/architecture.md tells more, and tests/resilience/faults try it call by call."""
RULED_OUT = {"request": "that request", "zone": "the zone", "region": "the region", "account": "the account"}


def tables() -> str:
    """The generated part of the page."""
    parts = ["\n## Errors and exit status\n\n", _table(["error", "exit status", "means"], _tree())]
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
    """One table for each kind of error, in the order in which they matter to whoever reads them."""
    rows: dict[str, list[list[str]]] = {kind: [] for kind in DONE}
    for code, several in meanings.items():
        for meaning in several:
            wording = getattr(meaning, "fragment", "") or getattr(meaning, "wording", "")
            ruled_out = RULED_OUT[meaning.scope] + ("" if getattr(meaning, "is_offered", True) else ", for up to a day")
            rows[meaning.kind.__name__].append([f"`{code}`", _cell(wording), ruled_out])
    for kind, found in rows.items():
        if found:
            hint = module._HINTS.get(getattr(errors, kind), "")
            yield f"\n### {kind}: {_for_people(kind)}\n\nBy itself: {DONE[kind]}." + (
                f" You: {hint}.\n\n" if hint else "\n\n"
            )
            yield _table(["code", "when the message has", "rules out"], found)


def _for_people(kind: str) -> str:
    return {
        "CapacityError": "sold out, or not sold there",
        "QuotaError": "more than the account may have",
        "ThrottledError": "asked too often",
        "TransientError": "the cloud is busy or failed",
        "AuthError": "who asks is not known",
        "AccessDeniedError": "who asks may not",
        "InvalidRequestError": "the request is wrong",
        "ProviderError": "anything else, and every code that is not listed",
    }[kind]


def _cell(wording: str) -> str:
    return f"`{wording.replace('|', chr(92) + '|')}`" if wording else ""


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]] | Iterator[list[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def page(kept: str) -> str:
    """The whole page: what was written by hand, and the tables."""
    return kept.partition(MARK)[0] + MARK + tables()


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
