"""Every call of every operation, met by every trouble, once and for good: which cases there are, and how one is run."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

from multicompute import errors
from multicompute.engine.recovery.reap import reap
from multicompute.testing import Call
from tests.resilience.faults.harnesses import ProviderHarness, Scene
from tests.resilience.faults.operations import NAME, OPERATIONS, Happened
from tests.resilience.faults.troubles import Trouble, troubles


@dataclass(frozen=True)
class Case:
    """A trouble that meets one call of an operation.

    Attributes:
        at: which of the calls of that name: 1 for the first.
        once: whether it is over after that call; else it meets every later one of that name, too.
    """

    operation: str
    call: str
    at: int
    trouble: Trouble
    once: bool

    def __str__(self) -> str:
        times = "once" if self.once else "for good"
        return f"{self.operation}: {self.call} number {self.at}: {self.trouble.name}, {times}"


class Campaign:
    """The campaign in one world."""

    def __init__(self, world: ProviderHarness) -> None:
        self.world = world
        self.calls: Mapping[str, Counter[str]] = {name: self._recorded(name) for name in OPERATIONS}
        """Operation -> the calls that it makes when nothing is wrong, and how often."""

    def _recorded(self, name: str) -> Counter[str]:
        with self.world.scene() as scene:
            operation = OPERATIONS[name]
            operation.prepare(scene)
            self.world.cloud.faults.clear()
            operation.act(scene)
            calls = Counter(call.operation for call in self.world.cloud.faults.calls)
            clean_up(scene)
        return calls

    def cases(self, operation: str) -> Iterator[Case]:
        """All cases of an operation.

        One trouble of each class wherever a call is made, once and for good; and every code of the cloud's table, once, where a call
        is made for the first time in any operation: what a code means does not depend on the operation, what becomes of it does.
        """
        earlier = list(OPERATIONS)[: list(OPERATIONS).index(operation)]
        for call, at in self._points(operation):
            is_new = at == 1 and not any(call in self.calls[name] for name in earlier)
            fitting = [trouble for trouble in troubles(self.world.name) if trouble.fits(call)]
            classes = {trouble.error_class: trouble for trouble in fitting}
            for trouble in fitting if is_new else classes.values():
                yield Case(operation, call, at, trouble, once=True)
            for trouble in classes.values():
                yield Case(operation, call, at, trouble, once=False)

    def _points(self, operation: str) -> list[tuple[str, int]]:
        """Each call by its first and its last time; by name, since some are made side by side in any order."""
        return [(call, at) for call, times in sorted(self.calls[operation].items()) for at in sorted({1, times})]

    def sample(self) -> list[Case]:
        """Some cases of each call, so spread that every trouble is met."""
        points = [(operation, *point) for operation in OPERATIONS for point in self._points(operation)]
        every = troubles(self.world.name)
        laps = [(trouble, (index + lap) % 2 == 0) for lap in (0, 1) for index, trouble in enumerate(every)]
        ring, each = cycle(laps), max(2, -(-len(every) // len(points)))
        chosen = []
        for operation, call, at in points:
            fitting = ((trouble, once) for trouble, once in ring if trouble.fits(call))
            chosen += [Case(operation, call, at, trouble, once) for trouble, once in islice(fitting, each)]
        met = {case.trouble.name for case in chosen}
        # What fits few calls may have been passed over.
        for trouble, once in laps[: len(every)]:
            fitting_points = [point for point in points if trouble.fits(point[1])]
            if trouble.name not in met and fitting_points:
                chosen.append(Case(*fitting_points[0], trouble, once))
        return _without_repetitions(chosen)

    def run(self, case: Case) -> str:
        """The end that a case comes to, in words.

        Raises:
            AssertionError: it is none of the good ends.
        """
        operation = OPERATIONS[case.operation]
        with self.world.scene(impatient=case.trouble.name == "no answer") as scene:
            operation.prepare(scene)
            self._set(case)
            ended = operation.judge(scene, _done(scene, case), case.trouble, case.once)
            clean_up(scene)
        return ended

    def _set(self, case: Case) -> None:
        faults = self.world.cloud.faults
        faults.clear()
        seen = 0

        def watch(call: Call) -> None:
            nonlocal seen
            seen += 1
            if seen == case.at:
                case.trouble.inject(faults, case.call, 1 if case.once else None)

        faults.hook(case.call, watch)


def _without_repetitions(cases: list[Case]) -> list[Case]:
    """The later times of a call are for the whole campaign, but where a trouble would not be met at all without them."""
    met = Counter(case.trouble.name for case in cases)
    kept = []
    for case in cases:
        if case.at > 1 and met[case.trouble.name] > 1:
            met[case.trouble.name] -= 1
        else:
            kept.append(case)
    return kept


def _done(scene: Scene, case: Case) -> Happened:
    try:
        return Happened(OPERATIONS[case.operation].act(scene), None)
    except errors.MulticomputeError as error:
        return Happened(None, error)


def clean_up(scene: Scene) -> None:
    """When the trouble is over and its time is up, a reap ends whatever is left, and nothing is."""
    scene.cloud.faults.clear()
    scene.clock.advance("4h")
    if scene.session.ledger.clusters():
        report = reap(scene.session)
        assert (report.failed, report.notes, report.orphans) == ({}, [], []), report
    assert not scene.session.ledger.find(NAME).state.is_live
    assert scene.cloud.alive() == []
