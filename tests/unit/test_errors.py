"""The tree of errors that the documentation shows is the tree of classes."""

import importlib
import pkgutil
import re

import multicompute
from multicompute import errors
from multicompute.errors import MulticomputeError


def drawn_tree() -> dict[str, tuple[str, ...]]:
    """Return class -> bases, as drawn at the top of errors.py."""
    assert errors.__doc__ is not None
    found: dict[str, tuple[str, ...]] = {"MulticomputeError": ("Exception",)}
    ancestors = ["MulticomputeError"]
    for match in re.finditer(r"^((?:\|   )*)\+-- (\w+)(?: \((\w+)\))? ", errors.__doc__, re.MULTILINE):
        indent, name, builtin = match.groups()
        depth = 1 + len(indent) // 4
        found[name] = (ancestors[depth - 1], *([builtin] if builtin else []))
        ancestors[depth:] = [name]
    return found


def test_the_drawing_of_the_tree_shows_every_class_below_its_bases() -> None:
    classes = {
        name: tuple(base.__name__ for base in kind.__bases__)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, MulticomputeError)
    }
    assert drawn_tree() == classes


def test_every_error_that_the_package_raises_is_in_the_tree() -> None:
    def descendants(kind: type[MulticomputeError]) -> set[type[MulticomputeError]]:
        return {kind}.union(*map(descendants, kind.__subclasses__()))

    for module in pkgutil.walk_packages(multicompute.__path__, "multicompute."):
        if not module.name.startswith(("multicompute.integrations", "multicompute.__main__")):
            importlib.import_module(module.name)
    ours = {kind for kind in descendants(MulticomputeError) if kind.__module__.startswith("multicompute.")}
    assert {kind.__name__ for kind in ours} == drawn_tree().keys()
