"""Rewrites arguments in messages from Python's spelling (`max_hourly=55.04`) to the command line's (`--max-hourly 55.04`)."""

import re
from ast import literal_eval
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from multicompute.errors import ConfigError, MulticomputeError
from multicompute.spec import ClusterSpec, argument_of

_OTHERS = {"accelerators": "--accelerator", "method": "--finetune"}
"""Arguments of `multicompute.catalog.refresh` and of workloads whose options have other names."""
_VALUE = r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)|[\w.+-]*\w"


def workload_flag(name: str) -> str:
    """Return the option that sets a field of a workload."""
    return _OTHERS.get(name) or f"--{name.replace('_', '-')}"


def flag_of(name: str) -> str:
    """Return the option that sets a field."""
    if name in _OTHERS or name not in ClusterSpec.model_fields:
        return workload_flag(name)
    return argument_of(name).flag or f"--{name.replace('_', '-')}"


def as_options(text: str, *, also: Collection[str] = ()) -> str:
    """Return `text` with every argument of a request, and those in `also`, in the spelling of the command line."""
    names = "|".join((*ClusterSpec.model_fields, "accelerators", *also))
    text = re.sub(rf"\b({names})=({_VALUE})", lambda match: _option(match[1], match[2]), text)
    # "name the file" is a verb.
    before = r"(^(?!name )|\b(?:without|raise|omit) )"
    return re.sub(rf"{before}({names})\b(?=:|$|[ ,])", lambda match: match[1] + flag_of(match[2]), text)


@contextmanager
def options_in_errors(*, also: Collection[str] = ()) -> Iterator[None]:
    """Let errors that pass through name arguments as options, except those about the configuration: its keys are no options.

    Args:
        also: Arguments that are options of the command, in addition to those of a request.
    """
    try:
        yield
    except ConfigError:
        raise
    except MulticomputeError as error:
        error.message = as_options(error.message, also=also)
        error.hint = as_options(error.hint, also=also) if error.hint else error.hint
        raise


def _option(name: str, source: str) -> str:
    from shlex import quote

    flag = flag_of(name)
    try:
        value = literal_eval(source)
    except (ValueError, SyntaxError):
        return f"{flag} {source}"
    if value is True:
        return flag
    if value is False:
        return flag.replace("--", "--no-", 1)
    if name == "spot":
        return f"{flag}={value}"
    items = value if isinstance(value, (list, tuple)) else ["none" if value is None else value]
    return " ".join(f"{flag} {quote(item) if isinstance(item, str) else source}" for item in items)
