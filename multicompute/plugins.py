"""Discovery of the installed providers; the only module that reads entry points."""

import functools
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from multicompute.errors import ConfigError
from multicompute.provider import ProviderPlugin

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "multicompute.providers"


@functools.cache
def discover() -> Mapping[str, ProviderPlugin]:
    """Return the plug-ins of all installed providers by name, sorted by name.

    Raises:
        ConfigError: two distributions provide the same name, or a plug-in object can't be loaded.
    """
    # Imported here: importlib.metadata takes 15 ms, a sixth of a cold command.
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    # Check all names before loading any plug-in: of two with one name, neither is known to be the right one.
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ConfigError(
                f"two providers are named {entry.name!r}: {other.value} and {entry.value}",
                hint="uninstall one of the two distributions",
            )
    return MappingProxyType({name: _load(entry) for name, entry in found.items()})


def _load(entry: "EntryPoint") -> ProviderPlugin:
    try:
        plugin: ProviderPlugin = entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"the provider {entry.name!r} ({entry.value}) can't be loaded: {error}",
            hint="reinstall or uninstall the distribution that provides it",
        ) from error
    return plugin


def missing_modules(plugin: ProviderPlugin) -> tuple[str, ...]:
    """Return the modules of the plug-in's SDK that are not installed, without importing any."""
    return tuple(name for name in plugin.modules if name not in sys.modules and not _is_installed(name))


def _is_installed(module: str) -> bool:
    from importlib.machinery import PathFinder
    from importlib.util import find_spec

    top, *inner = module.split(".")
    found = find_spec(top)
    for part in inner:
        if found is None or found.submodule_search_locations is None:
            return False
        # One part at a time, because find_spec("a.b") would import a.
        found = PathFinder.find_spec(part, list(found.submodule_search_locations))
    return found is not None


def install_line(plugin: ProviderPlugin) -> str:
    """Return the command that installs the SDK of `plugin`."""
    return f'pip install "multicompute[{plugin.extra}]"'
