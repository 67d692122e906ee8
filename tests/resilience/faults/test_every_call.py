"""Whatever a cloud answers to any call, an operation succeeds, fails over, or reports what is wrong and leaves nothing.

`make test` runs a sample in which every call and every error occurs, `make campaign` runs everything, and `make reliability`
also writes docs/reliability.md.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from multicompute import errors
from tests.resilience.faults.campaign import Campaign, Case
from tests.resilience.faults.harnesses import HARNESSES
from tests.resilience.faults.matrix import PAGE, outcomes, read
from tests.resilience.faults.operations import OPERATIONS
from tests.resilience.faults.troubles import COLUMNS, troubles

EVERY = "CAMPAIGN_EXAMPLES" in os.environ
RESULTS = os.environ.get("CAMPAIGN_RESULTS")
"""The folder for the outcomes, when the report is about to be written; then it is not compared with them."""
IS_OLD = "docs/reliability.md is outdated: write it again with `make reliability`, and check what has changed"


def cases_of(campaign: Campaign, operation: str) -> list[Case]:
    sample = [case for case in campaign.sample() if case.operation == operation]
    # The page must have the outcomes of the sample, too.
    return list(dict.fromkeys([*campaign.cases(operation), *sample])) if EVERY else sample


def run(campaign: Campaign, cases: list[Case]) -> tuple[dict[Case, str], list[str]]:
    """Return the outcomes of the cases, and the cases without an acceptable outcome."""
    ended: dict[Case, str] = {}
    wrong = []
    for case in cases:
        try:
            ended[case] = campaign.run(case)
        except (AssertionError, errors.MulticomputeError) as error:
            wrong.append(f"{case}: {error!r:.300}")
            campaign.harness.restart()
        except BaseException as error:
            error.add_note(str(case))
            raise
    return ended, wrong


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("cloud", HARNESSES)
def test_an_operation_has_an_acceptable_outcome_whatever_a_call_is_answered_with(
    campaigns: Any, cloud: str, operation: str
) -> None:
    cases = cases_of(campaigns[cloud], operation)
    assert cases
    ended, wrong = run(campaigns[cloud], cases)
    assert wrong == []
    if RESULTS is not None:
        write(Path(RESULTS) / f"{cloud}-{operation}.json", cloud, ended)
        return
    page = read(PAGE.read_text())
    known = {case: outcomes(page, (cloud, operation, case.call, case.trouble.column), once=case.once) for case in ended}
    assert {str(case): outcome for case, outcome in ended.items() if outcome not in known[case]} == {}, IS_OLD


def write(path: Path, cloud: str, ended: dict[Case, str]) -> None:
    cases = [
        [cloud, case.operation, case.call, case.at, case.trouble.name, case.trouble.column, case.once, outcome]
        for case, outcome in ended.items()
    ]
    path.write_text(json.dumps({"columns": COLUMNS, "operations": list(OPERATIONS), "cases": cases}))


@pytest.mark.parametrize("cloud", HARNESSES)
def test_the_sample_has_every_call_and_every_error(campaigns: Any, cloud: str) -> None:
    campaign = campaigns[cloud]
    sample = campaign.sample()
    assert {(case.operation, case.call) for case in sample} == {
        (operation, call) for operation, calls in campaign.calls.items() for call in calls
    }
    assert {case.trouble.name for case in sample} == {
        trouble.name
        for trouble in troubles(cloud)
        if any(trouble.fits(call) for calls in campaign.calls.values() for call in calls)
    }


@pytest.mark.skipif(RESULTS is not None, reason="the report is about to be written")
@pytest.mark.parametrize("cloud", HARNESSES)
def test_the_report_has_exactly_the_calls_that_are_made(campaigns: Any, cloud: str) -> None:
    campaign = campaigns[cloud]
    page = {cell[1:]: both for cell, both in read(PAGE.read_text()).items() if cell[0] == cloud}
    # Without counts: how often some calls are made, such as polls, differs from run to run.
    expected = {
        (case.operation, case.call, case.trouble.column): None
        for operation in OPERATIONS
        for case in (*campaign.cases(operation), *campaign.sample())
    }
    assert sorted(page) == sorted(expected), IS_OLD
    assert all(once or for_good for once, for_good in page.values())
