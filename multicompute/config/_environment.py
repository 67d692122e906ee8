"""The environment variables: the only reader, and for tests the only writer, of the process's environment."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Final

PREFIX: Final = "MULTICOMPUTE_"
_scoped: ContextVar[Mapping[str, str]] = ContextVar("multicompute_variables", default=MappingProxyType({}))


def variables() -> dict[str, str]:
    """Return the variables of the process, and those of `scoped_variables` in their place."""
    return {**os.environ, **_scoped.get()}


@contextmanager
def scoped_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Configure this thread or asyncio task, inside the block, as if these variables were set.

    Other threads and tasks, and child processes, do not see them. For a process that serves several configurations at
    once.
    """
    token = _scoped.set(MappingProxyType({**_scoped.get(), **variables}))
    try:
        yield
    finally:
        _scoped.reset(token)


@contextmanager
def apply_environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set these variables for this process and its children, and restore the previous values after the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def default_owner(environment: Mapping[str, str]) -> str:
    """Return `user@host`."""
    user = environment.get("USER") or environment.get("LOGNAME") or f"uid{os.getuid() if hasattr(os, 'getuid') else 0}"
    # Not socket.gethostname(): importing socket costs a cold command 3 ms.
    host = os.uname().nodename if hasattr(os, "uname") else environment.get("COMPUTERNAME", "host")
    return f"{user}@{host}"
