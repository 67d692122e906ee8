"""The arguments of a request as flags, made from the fields of ClusterSpec so that none can be forgotten."""

import argparse
from collections.abc import Collection, Mapping
from dataclasses import Field, fields
from datetime import timedelta
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from multicompute.spec import ClusterSpec

HELP = {
    "gpus": "accelerators in all (GPUs, TPU chips, Trainium chips, ...)",
    "type": "accelerator, TPU slice or instance type: h100, v5p-128, p5.48xlarge; repeated: any of these",
    "order": "price: cheapest first; given: every offer of the first --type before any of the second",
    "reservations": "id of a capacity reservation or capacity block, tried first; may be repeated",
    "name": "name of the cluster, unique among those that live",
    "nodes": "exact number of nodes",
    "gpus_per_node": "exact number of accelerators on each node",
    "min_gpu_memory": 'memory per accelerator, "80GiB" or a number of GiB',
    "vcpus": "least vCPUs per node",
    "memory": 'least memory per node, "1TiB" or a number of GiB',
    "spot": "spot only; --spot=prefer ranks spot and on-demand offers together",
    "flex_start": "may also wait in a cloud's queue for capacity sold that way",
    "estimates": "leave out offers whose price is only estimated",
    "clouds": "provider by name; may be repeated; all configured ones when left out",
    "regions": 'where: a glob "us-*", one behind "PROVIDER:", or a residency such as eu; may be repeated',
    "exclude": "where not, in the same forms, or an instance type; may be repeated",
    "placement": "how far the gang may spread",
    "interconnect": "fabric between nodes; auto asks for one where the accelerators are built to be linked",
    "max_price": "USD per accelerator-hour at most",
    "max_hourly": "USD per hour at most for the whole cluster",
    "budget": "USD at most over the cluster's life",
    "ttl": 'hard end of life, "90m", "12h", "7d" or none',
    "idle_timeout": "end it when no accelerator was at work for this long, as far as the cloud measures that",
    "disk": 'boot disk per node, "200GiB" or a number of GiB',
    "image": "image id, in place of the provider's default",
    "setup": "shell script that runs as root at first boot",
    "ssh_key": "file with the public key that may log in",
    "private": "no public address",
    "tags": "tag on every resource; may be repeated",
    "wait": "return as soon as the request is recorded and under way",
    "timeout": 'give up, and tear down, after this long, "30m"',
    "attempt_timeout": "how long one attempt may stay unready before the next place is tried",
    "keep_trying": "when nobody has capacity, go round again for this long",
    "progress": "no progress on stderr",
}
"""What each field of ClusterSpec means, for `--help`."""


def add_request_arguments(parser: argparse.ArgumentParser, *, only: Collection[str] | None = None) -> None:
    """Give `parser` a flag for every argument of a request, or for those in `only`."""
    for item in fields(ClusterSpec):
        if only is None or item.name in only:
            flag, form = flag_of(item)
            parser.add_argument(flag, dest=item.name, default=argparse.SUPPRESS, help=HELP[item.name], **form)


def request_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that were given, by the names of ClusterSpec's fields."""
    given = {item.name: getattr(options, item.name) for item in fields(ClusterSpec) if hasattr(options, item.name)}
    if "tags" in given:
        given["tags"] = dict(given["tags"])
    return given


def flag_of(item: "Field[Any]") -> tuple[str, dict[str, Any]]:
    """The flag of one field, and how argparse is to read it."""
    members = _members(item.type)
    origins = {get_origin(member) for member in members}
    flag = f"--{item.name.replace('_', '-')}"
    if bool in members:
        return _switch(flag, members, on=item.default is False)
    if tuple in origins:
        return flag.removesuffix("s"), {"action": "append", "metavar": item.name.removesuffix("s").upper()}
    if Mapping in origins:
        return flag.removesuffix("s"), {"action": "append", "metavar": "KEY=VALUE", "type": _pair}
    return _single(flag, item.name, members, origins)


def _single(flag: str, name: str, members: Collection[Any], origins: Collection[Any]) -> tuple[str, dict[str, Any]]:
    if Literal in origins:
        return flag, {"choices": [value for member in members for value in get_args(member)]}
    if int in members:
        return flag, {"metavar": "N", "type": _whole}
    if float in members:
        return flag, {"metavar": "USD" if "max_" in name or name == "budget" else "SIZE", "type": _number}
    if timedelta in members:
        return flag, {"metavar": "DURATION", "type": _duration}
    if str in members:
        return flag, {"metavar": name.upper()}
    raise TypeError(f"ClusterSpec.{name}: no flag is known for {members}")


def _members(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _switch(flag: str, members: Collection[Any], *, on: bool) -> tuple[str, dict[str, Any]]:
    words = [value for member in members if get_origin(member) is Literal for value in get_args(member)]
    if words:
        return flag, {"nargs": "?", "const": True, "choices": words, "metavar": "|".join(words)}
    return (flag, {"action": "store_true"}) if on else (flag.replace("--", "--no-", 1), {"action": "store_false"})


def _whole(text: str) -> int | str:
    # What is no number goes on as text: ClusterSpec's message is the one place that says what is wrong with it.
    try:
        return int(text)
    except ValueError:
        return text


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _duration(text: str) -> str | None:
    return None if text.lower() == "none" else text


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pair; write --tag team=nlp")
    return key, value
