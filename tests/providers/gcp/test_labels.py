"""Any tag comes back from Google's alphabet as it was, and names are what Compute Engine takes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute.provider import Selector
from multicompute_gcp._labels import (
    decode,
    described_tags,
    description_of,
    encode,
    is_meant,
    label_filter,
    labels_of,
    name_of,
    part_name,
    request_id,
    tags_of,
)

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(TEXT)
def test_a_text_comes_back_from_its_label(text: str) -> None:
    label = encode(text)
    assert re.fullmatch("[a-z0-9_-]*", label)
    assert decode(label) == text


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=3))
def test_tags_come_back_from_labels_whose_keys_begin_with_a_letter(tags: dict[str, str]) -> None:
    try:
        labels = labels_of(tags)
    except InvalidRequestError as error:
        assert "63" in error.message
        return
    assert all(re.fullmatch("[a-z][a-z0-9_-]{0,62}", key) for key in labels)
    assert tags_of(labels) == tags


@given(TEXT, TEXT)
def test_two_texts_never_share_a_label(one: str, other: str) -> None:
    assert (encode(one) == encode(other)) is (one == other)


def test_what_is_in_the_alphabet_stays_as_it_is() -> None:
    tags = {"multicompute-id": "c-1f", "team_name": "nlp-2"}
    assert labels_of(tags) == tags


def test_a_long_owner_is_shortened_the_same_way_for_writing_and_for_filtering() -> None:
    owner = "Somebody.With.A.Long.Name@a-machine-with-a-long-name.example.org"
    label = labels_of({"multicompute-owner": owner})["multicompute-owner"]
    assert len(label) <= 63
    assert label in label_filter(Selector(owner=owner))
    assert is_meant({"multicompute-id": "x", "multicompute-owner": label}, Selector(owner=owner))


def test_a_value_that_is_too_long_as_a_label_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="Project"):
        labels_of({"Project": "X" * 40})


def test_a_selector_of_nobody_finds_what_is_ours_only() -> None:
    assert label_filter(Selector()) == "labels.multicompute-id:*"
    assert not is_meant({"team": "nlp"}, Selector())


@given(st.text(max_size=80))
def test_names_are_rfc_1035_with_room_for_what_is_appended(token: str) -> None:
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name_of(token))
    assert len(part_name(token, 15) + "-0001") <= 63


def test_a_token_that_is_a_name_is_its_own_name() -> None:
    assert part_name("mc-0123456789abcdef01234567", 0) == "mc-0123456789abcdef01234567-0"


def test_request_ids_are_uuids_that_differ_by_every_word() -> None:
    ids = {request_id("bulk", "t", "0", "a"), request_id("bulk", "t", "1", "a"), request_id("bulk", "t", "0", "b")}
    assert len(ids) == 3
    assert request_id("bulk", "t", "0", "a") in ids


def test_a_description_carries_tags_and_a_stranger_s_carries_none() -> None:
    tags = {"multicompute-id": "id-1", "team": "NLP"}
    assert described_tags(description_of(tags)) == tags
    assert described_tags("allow SSH") == described_tags(None) == described_tags('["x"]') == {}


def test_a_description_that_would_be_too_long_keeps_our_own_tags() -> None:
    text = description_of({"multicompute-id": "id-1", **{f"key{number}": "x" * 60 for number in range(40)}})
    assert len(text) <= 2048
    assert described_tags(text) == {"multicompute-id": "id-1"}
