"""The cases of the campaign: every trouble at every call of every operation, once and for good; and how to run one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

from multicompute import errors
from multicompute.engine.recovery.reap import reap
from multicompute.testing import Call
from tests.resilience.faults.harnesses import ProviderHarness, Scene
from tests.resilience.faults.operations import NAME, OPERATIONS, Result, remarks
from tests.resilience.faults.troubles import Trouble, troubles


@dataclass(frozen=True)
class Case:
    """A trouble at one call of an operation.

    Attributes:
        at: which of the calls of that name, from 1.
        once: whether only that call fails; else all later ones of that name fail, too.
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
    """The campaign on one local cloud."""

    def __init__(self, harness: ProviderHarness) -> None:
        self.harness = harness
        self.calls: Mapping[str, Counter[str]] = {name: self._recorded(name) for name in OPERATIONS}
        """Operation -> the calls that it makes without trouble, and how often."""

    def _recorded(self, name: str) -> Counter[str]:
        with self.harness.scene() as scene:
            operation = OPERATIONS[name]
            operation.prepare(scene)
            self.harness.cloud.faults.clear()
            operation.act(scene)
            calls = Counter(call.operation for call in self.harness.cloud.faults.calls)
            clean_up(scene)
        return calls

    def cases(self, operation: str) -> Iterator[Case]:
        """Yield all cases of an operation.

        These are one trouble of each class at every call, once and for good; and every code of the cloud's error table, once, at
        the first call of each name in any operation. The meaning of a code does not depend on the operation, but its effect does.
        """
        earlier = list(OPERATIONS)[: list(OPERATIONS).index(operation)]
        for call, at in self._points(operation):
            is_new = at == 1 and not any(call in self.calls[name] for name in earlier)
            fitting = [trouble for trouble in troubles(self.harness.name) if trouble.fits(call)]
            classes = {trouble.error_class: trouble for trouble in fitting}
            for trouble in fitting if is_new else classes.values():
                yield Case(operation, call, at, trouble, once=True)
            for trouble in classes.values():
                yield Case(operation, call, at, trouble, once=False)

    def _points(self, operation: str) -> list[tuple[str, int]]:
        """Return the first and last call of each name; by name, since concurrent calls are made in any order."""
        return [(call, at) for call, times in sorted(self.calls[operation].items()) for at in sorted({1, times})]

    def sample(self) -> list[Case]:
        """Return some cases of each call, chosen so that every trouble occurs."""
        points = [(operation, *point) for operation in OPERATIONS for point in self._points(operation)]
        every = troubles(self.harness.name)
        rounds = [(trouble, (index + turn) % 2 == 0) for turn in (0, 1) for index, trouble in enumerate(every)]
        ring, each = cycle(rounds), max(2, -(-len(every) // len(points)))
        chosen = []
        for operation, call, at in points:
            fitting = ((trouble, once) for trouble, once in ring if trouble.fits(call))
            chosen += [Case(operation, call, at, trouble, once) for trouble, once in islice(fitting, each)]
        occurring = {case.trouble.name for case in chosen}
        # A trouble that fits few calls may be missing.
        for trouble, once in rounds[: len(every)]:
            fitting_points = [point for point in points if trouble.fits(point[1])]
            if trouble.name not in occurring and fitting_points:
                chosen.append(Case(*fitting_points[0], trouble, once))
        return _without_repetitions(chosen)

    def run(self, case: Case) -> str:
        """Run a case and return its outcome, in words.

        Raises:
            AssertionError: the outcome is not an acceptable one.
        """
        operation = OPERATIONS[case.operation]
        with self.harness.scene(short_timeouts=case.trouble.name == "no answer") as scene:
            operation.prepare(scene)
            self._set(case)
            outcome = operation.judge(scene, _act(scene, case), case.trouble, case.once)
            clean_up(scene)
        return outcome

    def _set(self, case: Case) -> None:
        faults = self.harness.cloud.faults
        faults.clear()
        seen = 0

        def inject(call: Call) -> None:
            nonlocal seen
            seen += 1
            if seen == case.at:
                case.trouble.inject(faults, case.call, 1 if case.once else None)

        faults.hook(case.call, inject)


def _without_repetitions(cases: list[Case]) -> list[Case]:
    """Remove the cases of later calls, which are for the complete campaign, except those with a trouble's only occurrence."""
    occurrences = Counter(case.trouble.name for case in cases)
    kept = []
    for case in cases:
        if case.at > 1 and occurrences[case.trouble.name] > 1:
            occurrences[case.trouble.name] -= 1
        else:
            kept.append(case)
    return kept


def _act(scene: Scene, case: Case) -> Result:
    try:
        return Result(OPERATIONS[case.operation].act(scene), None)
    except errors.MulticomputeError as error:
        return Result(None, error)


def clean_up(scene: Scene) -> None:
    """End the trouble, let the lease run out, and check that a reap leaves nothing."""
    scene.cloud.faults.clear()
    scene.clock.advance("4h")
    if scene.session.ledger.clusters():
        report = reap(scene.session)
        assert (report.failed, remarks(report), report.orphans) == ({}, [], []), report
    assert not scene.session.ledger.find(NAME).state.is_live
    assert scene.cloud.alive() == []
