"""An error table gives a vendor's code its kind and scope, and the error carries the place, the code and the vendor's words."""

import logging
import re
from datetime import date

import pytest

from multicompute import errors
from multicompute.offer import InstanceType, Offer, Quote
from multicompute.provider_kit.vendor_errors import (
    COMMON_HINTS,
    DENIED,
    INVALID,
    NO_CAPACITY_IN_ZONE,
    NOT_OFFERED_IN_ZONE,
    PREEMPTED,
    QUOTA_OF_REGION,
    THROTTLED,
    TRANSIENT,
    UNAUTHENTICATED,
    UNKNOWN,
    Meaning,
    Place,
    VendorAnswer,
    cause_of,
    error_of,
    find_meaning,
    invalid_request,
    meaning_of,
    not_rolled_back,
    one_line,
    retry_after,
    retryable,
    translator,
    unavailable_here,
)

PLACE = Place("example", "north", "north-a", "big")
TABLE = {
    "Full": (NO_CAPACITY_IN_ZONE,),
    "Refused": (
        QUOTA_OF_REGION._replace(wording="[Qq]uota"),
        NOT_OFFERED_IN_ZONE._replace(wording="not sold"),
        INVALID,
    ),
    "Partial": (INVALID._replace(wording="bad"),),
    "Taken": (PREEMPTED,),
}


def test_a_place_is_shown_as_far_as_it_is_known() -> None:
    assert str(PLACE) == "example north-a big"
    assert str(Place("example", "north")) == "example north"
    assert str(Place("example")) == "example"


def test_the_place_of_an_offer_has_all_of_it() -> None:
    quote = Quote(1.0, date(2026, 11, 1), "test")
    offer = Offer(InstanceType("example", "big"), "north", "north-a", "spot", quote)
    assert Place.of(offer) == Place("example", "north", "north-a", "big", "spot")


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (VendorAnswer("Full"), NO_CAPACITY_IN_ZONE),
        (VendorAnswer("Refused", "the\nquota is used"), TABLE["Refused"][0]),
        (VendorAnswer("Refused", "not sold here"), TABLE["Refused"][1]),
        (VendorAnswer("Refused", "anything else"), INVALID),
        (VendorAnswer("Partial", "no wording fits"), UNKNOWN),
        (VendorAnswer("New"), None),
    ],
)
def test_the_first_meaning_whose_wording_is_in_the_message_holds(answer: VendorAnswer, meaning: Meaning | None) -> None:
    assert find_meaning(TABLE, answer) == meaning


@pytest.mark.parametrize(
    ("status", "without_code", "with_code"),
    [
        (429, THROTTLED, THROTTLED),
        (502, TRANSIENT, TRANSIENT),
        (500, TRANSIENT, UNKNOWN),
        (404, TRANSIENT, UNKNOWN),
        (401, UNAUTHENTICATED, UNAUTHENTICATED),
        (403, DENIED, DENIED),
        (408, TRANSIENT, TRANSIENT),
        (529, THROTTLED, THROTTLED),
        (200, UNKNOWN, UNKNOWN),
        (0, UNKNOWN, UNKNOWN),
    ],
)
def test_a_status_never_means_a_lack_of_capacity(status: int, without_code: Meaning, with_code: Meaning) -> None:
    assert meaning_of(TABLE, VendorAnswer("", status=status)) == without_code
    assert meaning_of(TABLE, VendorAnswer("New", status=status)) == with_code


def test_a_known_code_decides_before_the_status() -> None:
    assert meaning_of(TABLE, VendorAnswer("Full", status=503)) == NO_CAPACITY_IN_ZONE


def test_a_request_that_the_adapter_refuses_has_its_place_and_a_hint() -> None:
    error = invalid_request("too long", code="TooLong", place=PLACE, hint="shorten it")
    assert type(error) is errors.InvalidRequestError
    assert str(error) == "example north-a big: too long (shorten it)"
    assert (error.code, error.scope, error.region) == ("TooLong", "request", "north")


def test_an_answer_without_a_code_is_named_by_its_status() -> None:
    error = error_of(TRANSIENT, VendorAnswer("", "bad gateway", 502), operation="List", place=Place("example"))
    assert (error.code, str(error)) == ("HTTP502", "example: List was refused: HTTP502: bad gateway")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "20"}, 0.02),
        ({"retry-after": "Wed, 25 Nov 2026 07:28:00 GMT"}, None),
        ({}, None),
    ],
)
def test_the_most_exact_header_says_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_an_error_has_the_place_the_code_and_the_vendors_words() -> None:
    answer = VendorAnswer("Full", "sold\n  out", 500, retry_after=7.0, zones=("north-b",))
    error = error_of(NO_CAPACITY_IN_ZONE, answer, operation="CreateServers", place=PLACE, hint="try north-b")
    assert type(error) is errors.CapacityError
    assert str(error) == "example north-a big: CreateServers was refused: Full: sold out (try north-b)"
    assert (error.provider, error.region, error.zone, error.instance_type) == ("example", "north", "north-a", "big")
    assert (error.code, error.scope, error.vendor_message) == ("Full", "zone", "sold out")
    assert (error.retry_after, error.zones_with_capacity, error.is_offered) == (7.0, ("north-b",), True)


def test_a_long_message_is_cut_for_people_and_kept_for_programs() -> None:
    error = error_of(UNKNOWN, VendorAnswer("New", "word " * 100), operation="Create", place=PLACE)
    assert len(error.message) < 300 and error.message.endswith("…")
    assert error.vendor_message == one_line("word " * 100, 1000) and len(error.vendor_message) == 499


def test_what_is_not_known_stays_out_of_an_error() -> None:
    error = error_of(
        TRANSIENT, VendorAnswer("Timeout"), operation="List", place=Place("example"), outcome="has no answer"
    )
    assert str(error) == "example: List has no answer: Timeout"
    assert (error.region, error.zone, error.instance_type, error.vendor_message) == (None, None, None, None)


def test_a_place_that_can_not_take_a_launch_counts_as_a_lack_of_capacity_there() -> None:
    error = unavailable_here(
        "no subnet", code="NoSubnet", place=PLACE, scope="region", hint="create one", is_offered=False
    )
    assert type(error) is errors.CapacityError
    assert (error.scope, error.code, error.is_offered) == ("region", "NoSubnet", False)
    assert str(error) == "example north-a big: no subnet (create one)"


def test_what_the_cloud_will_know_in_a_moment_is_repeated() -> None:
    error = retryable("not listed yet", code="Late", place=PLACE)
    assert type(error) is errors.TransientError
    assert (error.code, error.hint) == ("Late", COMMON_HINTS[errors.TransientError])


def test_a_gang_that_could_not_be_rolled_back_is_not_reported_as_a_lack_of_capacity() -> None:
    refusal = error_of(NO_CAPACITY_IN_ZONE, VendorAnswer("Full"), operation="Create", place=PLACE)
    failure = error_of(THROTTLED, VendorAnswer("Slow"), operation="Delete", place=PLACE)
    error = not_rolled_back(refusal, failure, place=PLACE)
    assert type(error) is errors.TransientError
    assert error.code == "Slow" and "Full" in error.message and "could not be taken back" in error.message


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("Full", "", "capacity"),
        ("Refused", "the quota", "quota"),
        ("Refused", "", "request"),
        ("Taken", "", "preemption"),
        ("New", "", ""),
        ("", "", ""),
    ],
)
def test_a_node_that_ended_has_the_cause_that_its_reason_means(code: str, message: str, cause: str) -> None:
    assert cause_of(TABLE, VendorAnswer(code, message)) == cause


class SdkError(Exception):
    pass


def test_sdk_errors_are_translated_with_their_cause_and_bugs_pass_through(caplog: pytest.LogCaptureFixture) -> None:
    def translate(error: Exception, operation: str, place: Place) -> errors.MulticomputeError:
        return error_of(UNKNOWN, VendorAnswer(str(error)), operation=operation, place=place)

    translate_errors = translator((SdkError,), translate, logging.getLogger("example"))
    caplog.set_level(logging.DEBUG, "example")
    with pytest.raises(errors.ProviderError) as caught, translate_errors("Create", PLACE):
        raise SdkError("teapot")
    assert caught.value.code == "teapot" and isinstance(caught.value.__cause__, SdkError)
    (record,) = caplog.records
    assert re.fullmatch(r"call \d+: example north-a big: Create: teapot in \d\.\d{3} s", record.getMessage())
    with pytest.raises(KeyError), translate_errors("Create", PLACE):
        raise KeyError("a bug")
