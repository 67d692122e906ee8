"""Defers the 1,300 public images that moto creates in each region of an account until a call needs them.

Creating them takes 45 ms and 15 MB in each region, most of the time that the first call in a region takes.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any


def defer_images(account: str) -> None:
    """Defer moto's public images and their snapshots in the regions of an account that moto has not created yet."""
    from moto.ec2.models import ec2_backends

    ec2_backends[account].backend = _backend_class()


@functools.cache
def _backend_class() -> type:
    from moto.ec2.models import EC2Backend

    # A type that is made by a call: moto has no annotations that a subclass could be checked with.
    methods = {
        # moto finds the URLs of a backend by its module.
        "__module__": EC2Backend.__module__,
        "_load_amis": lambda backend: _defer(backend, EC2Backend._load_amis),
        "describe_images": _describe_images_of(EC2Backend.describe_images),
    }
    return type(EC2Backend.__name__, (EC2Backend,), methods)


def _defer(backend: Any, load: Any) -> None:
    """Replace what holds the images and the snapshots of a backend, while both are empty."""

    def load_both() -> None:
        # First, because loading writes to both and reads what it has written.
        images.load = snapshots.load = None
        load(backend)

    images, snapshots = _Deferred(load_both), _Deferred(load_both)
    backend.amis, backend.snapshots = images, snapshots


def _describe_images_of(original: Any) -> Any:
    def describe_images(backend: Any, ami_ids: Any = None, filters: Any = None, *rest: Any, **named: Any) -> Any:
        # A call for images that were created since needs no others.
        ids = ami_ids or _ids_in(filters or {})
        if not ids or not all(dict.__contains__(backend.amis, image_id) for image_id in ids):
            len(backend.amis)
        return original(backend, ami_ids, filters, *rest, **named)

    return describe_images


def _ids_in(filters: Mapping[str, Any]) -> list[str]:
    """Return the ids that a filter names; moto itself sends one as a string for each instance that it creates."""
    ids = filters.get("image-id", [])
    return [ids] if isinstance(ids, str) else list(ids)


class _Deferred(dict[str, Any]):
    """A dictionary that is filled when something is looked for and not there; `copy` returns what is there."""

    def __init__(self, load: Any) -> None:
        super().__init__()
        self.load = load

    def _fill(self) -> None:
        if self.load is not None:
            self.load()

    def __missing__(self, key: str) -> Any:
        if self.load is None:
            raise KeyError(key)
        self._fill()
        return self[key]

    def __contains__(self, key: object) -> bool:
        if super().__contains__(key):
            return True
        self._fill()
        return super().__contains__(key)

    def get(self, key: str, default: Any = None) -> Any:
        return super().get(key, default) if key in self else default

    def copy(self) -> dict[str, Any]:
        # Not dict.copy(): of a subclass, it reads through the methods below.
        return dict(super().items())

    def pop(self, key: str, *default: Any) -> Any:
        self._fill()
        return super().pop(key, *default)

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return super().__iter__()

    def __len__(self) -> int:
        self._fill()
        return super().__len__()

    def keys(self) -> Any:
        self._fill()
        return super().keys()

    def values(self) -> Any:
        self._fill()
        return super().values()

    def items(self) -> Any:
        self._fill()
        return super().items()
