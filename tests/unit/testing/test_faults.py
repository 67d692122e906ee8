"""Faults wait for their calls and hit the right number of them, and every call is recorded."""

import threading
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.testing.faults import Call, Fault, FaultKind, Faults


def test_a_fault_hits_its_operation_once_and_no_other() -> None:
    faults = Faults()
    faults.fail("launch", "capacity", message="none left", status=500)
    assert faults.take("terminate") is None
    fault = faults.take("launch")
    assert fault is not None
    assert (fault.kind, fault.code, fault.message, fault.status) == (FaultKind.FAIL, "capacity", "none left", 500)
    assert faults.take("launch") is None


@given(st.lists(st.integers(min_value=1, max_value=4), max_size=6))
def test_faults_are_used_up_in_the_order_in_which_they_were_added(times: list[int]) -> None:
    faults = Faults()
    for number, count in enumerate(times):
        faults.fail("launch", str(number), times=count)
    expected = [str(number) for number, count in enumerate(times) for _ in range(count)]
    met = [fault.code if (fault := faults.take("launch")) else None for _ in range(len(expected) + 1)]
    assert met == [*expected, None]


def test_a_fault_bound_to_fields_waits_for_a_call_that_has_them_all() -> None:
    faults = Faults()
    faults.throttle("launch", where={"zone": "us-east-1a", "spot": True})
    assert faults.take("launch", {"zone": "us-east-1a"}) is None
    assert faults.take("launch", {"zone": "us-east-1b", "spot": True}) is None
    assert faults.take("launch", {"zone": "us-east-1a", "spot": True, "count": 8}) is not None


def test_a_field_that_is_a_list_matches_by_any_of_its_values() -> None:
    faults = Faults()
    faults.drop("TerminateInstances", where={"InstanceIds": "i-2"})
    assert faults.take("TerminateInstances", {"InstanceIds": ["i-1"]}) is None
    assert faults.take("TerminateInstances", {"InstanceIds": ["i-1", "i-2"]}) is not None


def test_a_fault_without_a_count_hits_every_call_and_one_for_any_operation_hits_all() -> None:
    faults = Faults()
    faults.lose_answer("*", times=None)
    assert all(faults.take(name) for name in ("launch", "nodes", "launch"))
    assert [fault.times for fault in faults.waiting()] == [None]


def test_a_delay_carries_its_duration_and_a_refusal_its_retry_after() -> None:
    faults = Faults()
    faults.delay("nodes", timedelta(seconds=3))
    faults.throttle("nodes", retry_after=timedelta(seconds=7))
    met = [faults.take("nodes"), faults.take("nodes")]
    assert [fault.duration if fault else None for fault in met] == [timedelta(seconds=3), timedelta(0)]
    assert met[1] is not None and met[1].retry_after == timedelta(seconds=7)


def test_calls_are_recorded_and_counted() -> None:
    faults = Faults()
    faults.record("launch", "eu-west-1", {"count": 8})
    faults.record("nodes")
    assert faults.calls == [Call("launch", "eu-west-1", {"count": 8}), Call("nodes")]
    assert (faults.count("launch"), faults.count("terminate"), faults.count()) == (1, 0, 2)


def test_a_hook_runs_before_its_calls_and_can_inject_a_fault() -> None:
    faults = Faults()
    seen: list[Call] = []
    faults.hook("launch", seen.append)
    faults.hook("launch", lambda call: faults.drop("launch"))
    faults.record("nodes")
    faults.record("launch", fields={"zone": "a"})
    assert [call.operation for call in seen] == ["launch"]
    assert faults.take("launch") is not None


def test_an_exception_in_a_hook_breaks_the_call_after_it_is_recorded() -> None:
    faults = Faults()

    def stumble(call: Call) -> None:
        raise RuntimeError(call.operation)

    faults.hook("*", stumble)
    with pytest.raises(RuntimeError, match="launch"):
        faults.record("launch")
    assert faults.count("launch") == 1


def test_clear_forgets_faults_hooks_and_calls() -> None:
    faults = Faults()
    faults.hook("launch", lambda call: pytest.fail("the hook should be gone"))
    faults.fail("launch", "x")
    faults.clear()
    assert (faults.take("launch"), faults.record("launch").operation, faults.count()) == (None, "launch", 1)


def test_a_fault_object_can_be_added() -> None:
    faults = Faults()
    faults.add(Fault(FaultKind.FAIL, "launch", code="quota"))
    assert [fault.code for fault in faults.waiting()] == ["quota"]


def test_many_threads_use_up_exactly_as_many_faults_as_there_are() -> None:
    faults = Faults()
    faults.throttle("launch", times=500)
    met: list[int] = []

    def work() -> None:
        met.append(sum(faults.take("launch") is not None for _ in range(100)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(met) == 500
