"""Finds providers: the only reader of entry points."""

import functools
import sys
from collections.abc import Mapping
from types import MappingProxyType

from multicompute.errors import ConfigError
from multicompute.provider import ProviderPlugin

GROUP = "multicompute.providers"


@functools.cache
def discover() -> Mapping[str, ProviderPlugin]:
    """All providers that are installed, by name, in the order of their names.

    Raises:
        ConfigError: two distributions bring a provider of the same name, or a plug-in object can't be imported.
    """
    # importlib.metadata takes 15 ms to import, a sixth of a cold command: so only here.
    from importlib.metadata import entry_points

    found: dict[str, tuple[str, ProviderPlugin]] = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        if entry.name in found and found[entry.name][0] != entry.value:
            raise ConfigError(
                f"two providers are named {entry.name!r}: {found[entry.name][0]} and {entry.value}",
                hint="uninstall one of the two distributions",
            )
        if entry.name not in found:
            found[entry.name] = (entry.value, entry.load())
    return MappingProxyType({name: plugin for name, (_, plugin) in found.items()})


def missing_modules(plugin: ProviderPlugin) -> tuple[str, ...]:
    """The top-level modules of the plug-in's SDK that are not installed."""
    from importlib.util import find_spec

    return tuple(name for name in plugin.modules if name not in sys.modules and find_spec(name) is None)


def install_line(plugin: ProviderPlugin) -> str:
    """The command that installs the SDK of `plugin`."""
    return f'pip install "multicompute[{plugin.extra}]"'
