"""Discovery of the installed providers; the only module that reads entry points."""

import functools
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from multicompute.errors import ConfigError
from multicompute.provider import ProviderPlugin

GROUP = "multicompute.providers"


class _Entry(NamedTuple):
    """An entry point: a name, and the object it stands for as "module:attribute"."""

    name: str
    value: str


@functools.cache
def discover() -> Mapping[str, ProviderPlugin]:
    """Return the plug-ins of all installed providers by name, sorted by name.

    Raises:
        ConfigError: Two distributions provide the same name, or a plug-in object can't be loaded.
    """
    found: dict[str, _Entry] = {}
    # Check all names before loading any plug-in: of two with one name, neither is known to be the right one.
    for entry in sorted(_entries()):
        other = found.setdefault(entry.name, entry)
        if other.value != entry.value:
            raise ConfigError(
                f"two providers are named {entry.name!r}: {other.value} and {entry.value}",
                hint="uninstall one of the two distributions",
            )
    return MappingProxyType({name: _load(entry) for name, entry in found.items()})


def _entries() -> Iterator[_Entry]:
    """Return the entry points of our group.

    Reads the files of installed distributions directly: importing importlib.metadata and parsing the entry points of every
    distribution takes a cold command 20 ms, this one. Distributions that are not plain folders are left to importlib.
    """
    others = (finder for finder in sys.meta_path if finder is not PathFinder)
    if any(hasattr(finder, "find_distributions") for finder in others) or any(map(os.path.isfile, sys.path)):
        from importlib.metadata import entry_points

        yield from (_Entry(entry.name, entry.value) for entry in entry_points(group=GROUP))
        return
    seen: set[str] = set()
    for folder in sys.path:
        for path in _metadata_folders(folder or "."):
            # The first distribution of a name is the one that is imported.
            name = path.name.partition("-")[0].lower().replace(".", "_")
            if name not in seen:
                seen.add(name)
                yield from _entries_in(path / "entry_points.txt")


def _metadata_folders(folder: str) -> list[Path]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [Path(folder, name) for name in names if name.endswith((".dist-info", ".egg-info"))]


def _entries_in(path: Path) -> Iterator[_Entry]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return
    _, _, section = text.partition(f"[{GROUP}]")
    for line in section.partition("\n[")[0].splitlines():
        name, sign, value = line.partition("=")
        if sign:
            yield _Entry(name.strip(), value.strip())


def _load(entry: _Entry) -> ProviderPlugin:
    module, _, attribute = entry.value.partition(":")
    try:
        plugin: ProviderPlugin = getattr(import_module(module), attribute)
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
