"""Attributes of a local cloud whose values belong to one of its parts."""

from datetime import timedelta
from typing import Any, Generic, TypeVar, overload

_T = TypeVar("_T")


class Forwarded(Generic[_T]):
    """An attribute that reads and writes an attribute of another object.

    Example:
        >>> class Cloud:
        ...     lag = Forwarded[timedelta]("_state.timing.lag")
    """

    def __init__(self, path: str) -> None:
        """Forward to the attribute at `path`, which starts at the instance: "_state.timing.lag"."""
        *self._steps, self._name = path.split(".")

    def _owner(self, instance: object) -> Any:
        for step in self._steps:
            instance = getattr(instance, step)
        return instance

    @overload
    def __get__(self, instance: None, owner: type) -> "Forwarded[_T]": ...

    @overload
    def __get__(self, instance: object, owner: type | None = None) -> _T: ...

    def __get__(self, instance: object, owner: type | None = None) -> "Forwarded[_T] | _T":
        """Return the value from its owner."""
        if instance is None:
            return self
        value: _T = getattr(self._owner(instance), self._name)
        return value

    def __set__(self, instance: object, value: _T) -> None:
        """Set the value at its owner."""
        setattr(self._owner(instance), self._name, value)


Duration = Forwarded[timedelta]
