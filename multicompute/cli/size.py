"""`size`: how many of which accelerator a model needs, for how long, and what the complete job costs."""

import argparse
import math
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args, get_origin

from pydantic.fields import FieldInfo

from multicompute.cli.arguments import add_file_argument, add_request_arguments, help_of, request_arguments
from multicompute.cli.output import terminal_width, write_message, wrote
from multicompute.cli.spelling import as_options, options_in_errors, workload_flag
from multicompute.cli.tables import explain, output_arguments
from multicompute.errors import NoOfferError, SpecError
from multicompute.fields import members_of
from multicompute.spec import ClusterSpec
from multicompute.units import format_duration
from multicompute.workloads.description import WORKLOADS, AnyWorkload, Training, workload_of

if TYPE_CHECKING:
    from multicompute.sizing import Figure, Sizing
    from multicompute.sizing.job_plan import JobPlan

DEFAULT_LIMIT: Final = 12
REQUEST: Final = (
    *("gpus", "type", "deadline", "gpus_per_node", "allow_surplus", "min_gpu_memory", "vcpus", "memory"),
    *("spot", "flex_start", "estimates", "clouds", "regions", "exclude", "interconnect"),
    *("max_price", "max_hourly", "budget", "hours", "data", "strict_ttl"),
)
"""The arguments of a request that say where to look, and for which price."""
_BOUNDS: Final = ("deadline", "budget", "max_price", "max_hourly")
"""The arguments that can rule out every machine that does the job."""
_ONCE: Final = ("task", "method")
"""Fields that --finetune and --inference set."""
FIELDS: Final[Mapping[str, FieldInfo]] = {
    name: field for kind in WORKLOADS.values() for name, field in kind.model_fields.items() if name not in _ONCE
}
"""The fields of all workloads."""
_TASK_OPTION: Final = {"training": "training", "finetuning": "--finetune", "inference": "--inference"}
"""Task -> what asks for it on the command line."""
_GROUPS: Final[Mapping[tuple[str, ...], str]] = {
    ("training", "finetuning", "inference"): "the model",
    ("training", "finetuning"): "training and fine-tuning",
    ("finetuning",): "fine-tuning",
    ("finetuning", "inference"): "fine-tuning and inference",
    ("inference",): "inference",
}
"""The workloads that have a field -> the title of its group."""


def size_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `size`."""
    explain(
        parser,
        "Sizes a training run; with --finetune or --inference, that. Calls no cloud. Every option has the hours and the cost of the\n"
        "complete job; `multicompute up` with the same --file launches the first one.",
    )
    add_file_argument(parser)
    task = parser.add_mutually_exclusive_group()
    methods = get_args(WORKLOADS["finetuning"].model_fields["method"].annotation)
    task.add_argument("--finetune", dest="method", choices=methods, help="size a fine-tuning run of this kind")
    task.add_argument("--inference", action="store_true", help="size a model that is served")
    groups = {tasks: parser.add_argument_group(title) for tasks, title in _GROUPS.items()}
    for tasks, group in groups.items():
        for name, field in FIELDS.items():
            if tuple(task for task, kind in WORKLOADS.items() if name in kind.model_fields) == tasks:
                flag, settings = _option(name, field)
                group.add_argument(flag, dest=f"workload_{name}", **settings, help=_help(name))
    add_request_arguments(parser.add_argument_group("place and price"), only=REQUEST)
    parser.add_argument("--plot", metavar="FILE", help="draw cost against time to a .png or .svg file")
    parser.add_argument(
        "--explain", action="store_true", help="print the formula, inputs, source and assumptions of every number"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=DEFAULT_LIMIT,
        metavar="N",
        help=f"number of options to show at most, {DEFAULT_LIMIT} by default; 0 for all",
    )
    output_arguments(parser)


def _help(name: str) -> str:
    """Return the description of a field, of each workload where they differ."""
    texts: dict[str, str] = {}
    for task, kind in WORKLOADS.items():
        if name in kind.model_fields:
            texts.setdefault(help_of(kind.model_fields[name]), task)
    first, *others = texts
    return "; ".join([first, *(f"of {texts[other]}, {other}" for other in others)])


def _option(name: str, field: FieldInfo) -> tuple[str, dict[str, Any]]:
    words = [
        str(word)
        for member in members_of(field.annotation)
        if get_origin(member) is Literal
        for word in get_args(member)
    ]
    settings: dict[str, Any] = {"default": argparse.SUPPRESS}
    if bool in members_of(field.annotation):
        return workload_flag(name), {**settings, "action": argparse.BooleanOptionalAction}
    if words:
        return workload_flag(name), {**settings, "choices": words}
    return workload_flag(name), {**settings, "metavar": "FILE" if name == "config" else "N"}


def size(options: argparse.Namespace) -> int:
    """Print the figures of a workload, and the options for doing it."""
    from multicompute.sizing.plot import check_ending

    if options.limit < 0:
        raise SpecError(f"--limit {options.limit}: must be 0 (for all) or more")
    with options_in_errors(also=(*FIELDS, "method", "plot")):
        if options.plot:
            check_ending(options.plot)
        given = _request(options)
        found, failure = _plan(given)
        sizing = _sizing(found)
        figures = _explained(found, sizing) if options.explain else ()
        _write(options, found, sizing, figures)
        if options.plot and found.options:
            found.found.plot(options.plot)
        if failure is not None and any(getattr(found.spec, name) is not None for name in _BOUNDS):
            raise failure
    if failure is not None:
        write_message(as_options(str(failure)))
    elif options.output == "table":
        write_message(f"`{_up(options, found)}` launches the first option")
    return 0


def _request(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of the request, with the workload that file and options describe."""
    from multicompute.arguments import read_table

    table = read_table(Path(options.file)) if options.file else {}
    described = table.get("workload", {})
    if isinstance(described, str):
        described = read_table(Path(described))
    if not isinstance(described, Mapping):
        raise SpecError(f"{options.file}: workload: must be a table of arguments")
    workload = _workload(options, described)
    # With the file, `request_arguments` checks all of it together.
    options.workload = workload
    return {**request_arguments(options), "workload": workload}


def _workload(options: argparse.Namespace, described: Mapping[str, Any]) -> AnyWorkload:
    given = {name: getattr(options, f"workload_{name}") for name in FIELDS if hasattr(options, f"workload_{name}")}
    task = described.get("task") if described else "training"
    if options.method is not None:
        task, given["method"] = "finetuning", options.method
    elif options.inference:
        task = "inference"
    kind = WORKLOADS.get(str(task), Training)
    for name in given:
        if name not in kind.model_fields:
            only = [other for other, each in WORKLOADS.items() if name in each.model_fields]
            needed = " or ".join(_TASK_OPTION[other] for other in only)
            raise SpecError(f"{workload_flag(name)}: {task} has no such argument; it goes with {needed}")
    try:
        return workload_of({**described, **given, **({"task": task} if task is not None else {})})
    except SpecError as error:
        if described and not given:
            error.message = f"{options.file}: {error.message}"
        raise


def _plan(given: dict[str, Any]) -> "tuple[JobPlan, NoOfferError | None]":
    """Return the plan, and the error if it has no candidate: the figures of the workload are an answer, too."""
    from multicompute.engine.planning import plan_now, refresh_for
    from multicompute.session import open_session

    spec = ClusterSpec.of(given)
    refresh_for(open_session(), spec, notify=write_message)
    try:
        return cast("JobPlan", plan_now(spec)), None
    except NoOfferError as error:
        if error.plan is None:
            raise
        return cast("JobPlan", error.plan), error


def _sizing(found: "JobPlan") -> "Sizing":
    """Return the figures on the first accelerator that was named, else on that of the first option."""
    from multicompute.session import open_session
    from multicompute.sizing import size as size_on
    from multicompute.sizing.report import USUAL

    spec = found.spec
    assert spec.workload is not None
    name = found.options[0].accelerator if found.options else USUAL
    if spec.type:
        from multicompute.resolver import find_by_name

        models, instances = find_by_name(open_session().catalog, spec.type[0])
        name = models[0] if models else instances[0].accelerator
        if not name:
            raise SpecError(f"type={spec.type[0]!r}: has no accelerator", hint="name an accelerator, such as h100")
    return size_on(spec.workload, name, gpus=spec.gpus)


def _explained(found: "JobPlan", sizing: "Sizing") -> "tuple[Figure, ...]":
    from multicompute.sizing import explain as explain_figures

    same = (option for option in found.options if option.accelerator == sizing.accelerator.name)
    return explain_figures(sizing, next(same, None))


def _write(options: argparse.Namespace, found: "JobPlan", sizing: "Sizing", figures: "tuple[Figure, ...]") -> None:
    from multicompute.sizing.text import summary
    from multicompute.text import wrap

    document = sizing.to_dict(found.found)
    if figures:
        document["explained"] = [figure.to_dict() for figure in figures]
    if wrote(options, document, cast("list[dict[str, object]]", document["options"])):
        return
    width = None if options.wide else terminal_width()
    prose = min(width or 100, 100)
    for line in summary(sizing):
        print("\n".join(wrap(line, rest="  ", width=prose)))
    print()
    print(found.render(limit=options.limit or len(found.options), width=width, spelled=as_options))
    for figure in figures:
        print(f"\n{figure.text(prose)}")


def _up(options: argparse.Namespace, found: "JobPlan") -> str:
    """Return the command that launches the first option."""
    is_file_all = options.file and not any(
        hasattr(options, name) for name in (*(f"workload_{name}" for name in FIELDS), *REQUEST)
    )
    if is_file_all and options.method is None and not options.inference:
        return f"multicompute up --file {options.file}"
    best = found.best
    purchase = {"spot": ["--spot"], "flex_start": ["--flex-start"]}.get(best.purchase, [])
    words = ["up", "--gpus", f"{best.accelerators:g}", "--type", best.instance_type, "--cloud", best.provider]
    # The default ttl is a day.
    hours = best.hours or 0.0
    takes = timedelta(days=math.ceil(hours / 24)) if hours > 72 else timedelta(hours=math.ceil(hours))
    life = found.spec.ttl_with(takes)
    ttl = ["--ttl", format_duration(life)] if life is not None else []
    return " ".join(["multicompute", *words, "--region", best.region, *purchase, *ttl])
