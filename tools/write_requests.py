"""Writes multicompute/cluster_requests.py: the signatures of `Cluster.request` and its kin, from the fields of `ClusterSpec`."""

import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from multicompute.fields import form_of, members_of
from multicompute.spec import ClusterSpec
from multicompute.units import format_duration

TARGET = Path(__file__).parents[1] / "multicompute" / "cluster_requests.py"
POSITIONAL = ("gpus", "type")
WIDTH = 120

HEAD = '''"""The ways to ask for a cluster, with every argument of a request spelled out.

Written by `python tools/write_requests.py` from the fields of `ClusterSpec`. Change those instead of this file.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict

from multicompute.node import Event
from multicompute.validation import refuse_unknown

if TYPE_CHECKING:
    from multicompute.pending import PendingCluster
    from multicompute.plan import Plan
    from multicompute.spec import ClusterSpec
    from multicompute.workloads import AnyWorkload


class RequestArguments(TypedDict, total=False):
    """The arguments of a request other than the first two, for functions that pass them on."""

{typed_dict}


def _spec(arguments: dict[str, Any]) -> "ClusterSpec":
    # Imported here: it loads pydantic, which commands that only read the ledger do not need.
    from multicompute.spec import ClusterSpec

    arguments.pop("cls", None)
    return ClusterSpec.of(arguments)


def _plan(spec: "ClusterSpec") -> "Plan":
    from multicompute.engine.planning import plan_now

    return plan_now(spec)


async def _aplan(spec: "ClusterSpec") -> "Plan":
    from multicompute.engine.operation.threads import in_thread

    return await in_thread(lambda: _plan(spec))


class ClusterRequests:
    """The methods of `Cluster` that take a request; `Cluster` carries them out."""

    @classmethod
    def _request(cls, spec: "ClusterSpec") -> Self:
        """Carry out a request; `Cluster` implements it, since this file is generated."""
        raise NotImplementedError

    @classmethod
    def _arequest(cls, spec: "ClusterSpec") -> "PendingCluster[Self]":
        """Carry out a request without blocking the event loop; `Cluster` implements it, since this file is generated."""
        raise NotImplementedError
'''

REQUEST_RAISES = """\
SpecError: An argument is unknown or wrong, or two contradict each other. No cloud was called.
NoOfferError: No offer in the catalog meets the request.
ClusterExists: A live cluster of this name was requested with other arguments.
CapacityError: No candidate has capacity; lists what was tried. Nothing is left running.
QuotaError: No candidate is within the account's quota. Nothing is left running.
AuthError: A cloud does not accept the credentials. Nothing is left running.
ProviderError: A cloud refused the launch, also as AccessDeniedError or InvalidRequestError. Nothing is left running.
ProvisionTimeout: The cluster was not READY within `timeout`. Nothing is left running.
LedgerError: The ledger can't be written; nothing is launched that was not recorded first."""

PLAN_RAISES = """\
SpecError: An argument is unknown or wrong, or two contradict each other.
NoOfferError: No offer in the catalog meets the request; the error carries the plan.
CapacityError: All offers that meet the request are excluded by remembered outages."""

REQUEST_SUMMARY = """\
Launch a cluster, all nodes or none, and return it.

Tries one candidate after another, cheapest first, in every configured cloud. The same request with the same `name`
returns the same cluster again. Blocks until the cluster is READY, unless `wait=False`."""

ASYNC_REQUEST_SUMMARY = """\
Launch a cluster as `request` does, without blocking the event loop.

Await the result, or enter it with `async with`, which terminates the cluster after the block. A cancelled task tears down
what it started."""

PLAN_SUMMARY = """\
Return the candidates for a request, cheapest first, and why every other offer was left out.

Calls no cloud. `Cluster.request` with the same arguments tries these candidates in this order. With a workload, the plan
also has `options`, `pareto` and `plot`."""

ASYNC_PLAN_SUMMARY = """\
Return the candidates for a request as `plan` does, without blocking the event loop."""


def module() -> str:
    """Return the text of the module."""
    fields = [(name, field) for name, field in ClusterSpec.model_fields.items() if name not in POSITIONAL]
    typed_dict = "\n".join(f"    {name}: {accepted(field)}" for name, field in fields)
    methods = (
        method("def", "request", "Self", REQUEST_SUMMARY, REQUEST_RAISES, "return cls._request(_spec(locals()))"),
        method(
            "def",
            "arequest",
            '"PendingCluster[Self]"',
            ASYNC_REQUEST_SUMMARY,
            REQUEST_RAISES,
            "return cls._arequest(_spec(locals()))",
        ),
        method(
            "async def",
            "aplan",
            '"Plan"',
            ASYNC_PLAN_SUMMARY,
            PLAN_RAISES,
            "return await _aplan(_spec(locals()))",
        ),
    )
    plan = function("def", "plan", '"Plan"', PLAN_SUMMARY, PLAN_RAISES, "return _plan(_spec(locals()))")
    indented = "\n".join(textwrap.indent(text, "    ") for text in methods)
    return f"{HEAD.format(typed_dict=typed_dict)}\n{indented}\n\n{plan}"


def method(keyword: str, name: str, returns: str, summary: str, raises: str, *body: str) -> str:
    """Return the text of a class method."""
    text = function(keyword, name, returns, summary, raises, *body, first="cls", indent=4)
    return f"@classmethod\n{text}"


def function(
    keyword: str, name: str, returns: str, summary: str, raises: str, *body: str, first: str = "", indent: int = 0
) -> str:
    """Return the text of a function that takes the arguments of a request."""
    parameters = [first] if first else []
    for field_name, field in ClusterSpec.model_fields.items():
        parameters.append(f"{field_name}: {accepted(field)} = {default(field)}")
        if field_name == POSITIONAL[-1]:
            parameters.append("*")
    arguments = "\n".join(
        textwrap.fill(
            f"{field_name}: {field.description}",
            WIDTH - indent - 8,
            subsequent_indent="    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for field_name, field in ClusterSpec.model_fields.items()
    )
    docstring = (
        f"{summary}\n\nArgs:\n{textwrap.indent(arguments, '    ')}\n\nRaises:\n{textwrap.indent(raises, '    ')}\n"
    )
    head = f"@refuse_unknown\n{keyword} {name}(\n{textwrap.indent(''.join(f'{item},{chr(10)}' for item in parameters), '    ')}"
    rest = '"""' + docstring + '"""\n' + "\n".join(body) + "\n"
    return f"{head}) -> {returns}:\n{textwrap.indent(rest, '    ')}"


def accepted(field: FieldInfo) -> str:
    """Return the types that people may pass for a field, as source."""
    members, form = members_of(field.annotation), form_of(field)
    text = form.accepts if form else " | ".join(source(member) for member in members)
    text = f"{text} | None" if type(None) in members and not text.endswith("| None") else text
    # Imported for type checkers only.
    return f'"{text}"' if "Workload" in text else text


def source(kind: Any) -> str:
    """Return a plain type as source."""
    if get_origin(kind) is Literal:
        words = ", ".join(f'"{member}"' for member in get_args(kind))
        return f"Literal[{words}]"
    return str(kind.__name__)


def default(field: FieldInfo) -> str:
    """Return the default of a field as source, in the form that people write."""
    value = {} if field.default_factory else field.default
    if isinstance(value, timedelta):
        value = format_duration(value)
    if value == {}:
        return "None"
    return f'"{value}"' if isinstance(value, str) else repr(value)


if __name__ == "__main__":
    TARGET.write_text(module(), encoding="utf-8")
