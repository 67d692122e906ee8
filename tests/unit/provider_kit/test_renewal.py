"""Credentials that the cloud rejects are read from their source again, once."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from multicompute.errors import AuthError, CapacityError, TransientError
from multicompute.provider_kit.renewal import Renewal, renews_credentials


class Cloud:
    """A provider that accepts one key, and reads the key from a source that another process changes."""

    def __init__(self, *, source: str, accepted: str) -> None:
        self.source, self.accepted, self.key = source, accepted, source
        self.rebuilt = self.calls = 0
        self.renewal = Renewal(self._rebuild)

    def _rebuild(self) -> None:
        self.rebuilt += 1
        self.key = self.source

    @renews_credentials
    def nodes(self, prefix: str, *, count: int = 1) -> list[str]:
        """List nodes."""
        self.calls += 1
        if self.key != self.accepted:
            raise AuthError("rejected")
        return [f"{prefix}-{number}" for number in range(count)]


def test_a_rotated_key_is_read_again_and_the_call_repeated() -> None:
    cloud = Cloud(source="old", accepted="new")
    cloud.source = "new"
    assert cloud.nodes("n", count=2) == ["n-0", "n-1"]
    assert (cloud.rebuilt, cloud.calls) == (1, 2)
    assert cloud.nodes("n") == ["n-0"]
    assert (cloud.rebuilt, cloud.calls) == (1, 3)


def test_a_key_that_stays_wrong_is_an_error_after_one_more_call() -> None:
    cloud = Cloud(source="old", accepted="new")
    with pytest.raises(AuthError):
        cloud.nodes("n")
    assert (cloud.rebuilt, cloud.calls) == (1, 2)


def test_another_error_renews_nothing() -> None:
    renewal = Renewal(lambda: pytest.fail("was renewed"))

    def refused() -> None:
        raise CapacityError("no capacity")

    with pytest.raises(CapacityError):
        renewal.run(refused)


def test_threads_that_are_rejected_together_renew_once() -> None:
    key = {"now": "old"}
    rebuilt: list[int] = []
    together = threading.Barrier(4)

    def rebuild() -> None:
        rebuilt.append(1)
        key["now"] = "new"

    renewal = Renewal(rebuild)

    def one(_: int) -> str:
        first = iter([True])

        def call() -> str:
            if next(first, False):
                together.wait(10)
                raise AuthError("rejected")
            return key["now"]

        return renewal.run(call)

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, range(4))) == ["new"] * 4
    assert rebuilt == [1]


def test_a_launch_whose_roll_back_was_rejected_as_well_is_repeated_with_the_new_key() -> None:
    key = {"now": "old"}

    def launch() -> str:
        if key["now"] == "old":
            raise TransientError("what was launched could not be taken back") from AuthError("rejected")
        return "launched"

    assert Renewal(lambda: key.update(now="new")).run(launch) == "launched"
    key["now"] = "old"
    with pytest.raises(TransientError):
        Renewal(lambda: None).run(launch)
