"""The configuration: one file and the environment, which nothing else in the package reads."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from multicompute.config._environment import PREFIX, apply_environment, scoped_variables
from multicompute.config._ledger_url import state_file, without_password
from multicompute.config._source import KEYS, Source, read

if TYPE_CHECKING:
    from multicompute.config._model import Config

__all__ = [
    "KEYS",
    "PREFIX",
    "Config",
    "Source",
    "apply_environment",
    "checked",
    "load",
    "read",
    "scoped_variables",
    "state_file",
    "without_password",
]


def load(environment: Mapping[str, str] | None = None, *, with_file: bool = True) -> "Config":
    """Read and check the configuration file and the environment; variables take precedence over the file.

    Args:
        environment: The variables to read instead of the process's.
        with_file: Whether to read the file.

    Raises:
        ConfigError: The file is not valid TOML, or a key is unknown or has a wrong value; the message names file, line
            and key.
    """
    return checked(read(environment, with_file=with_file))


def checked(source: Source) -> "Config":
    """Return the configuration with checked values.

    Raises:
        ConfigError: A value is wrong; the message names where it was set.
    """
    # Imported here, as in __getattr__: it loads pydantic, which commands that only read the ledger do not need.
    from multicompute.config._model import checked

    return checked(source)


def __getattr__(name: str) -> object:
    if name == "Config":
        from multicompute.config._model import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
