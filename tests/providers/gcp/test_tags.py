"""Tags survive their encoding as labels and descriptions unchanged, and names are valid in Compute Engine."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute.errors import InvalidRequestError
from multicompute.provider import Selector
from multicompute_gcp._names import part_name, request_id, resource_name
from multicompute_gcp._tags import described_tags, description_of, has_selected_labels, label_filter, labels_of, tags_of

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=3))
def test_tags_survive_as_labels_whose_keys_begin_with_a_letter(tags: dict[str, str]) -> None:
    try:
        labels = labels_of(tags)
    except InvalidRequestError as error:
        assert "63" in error.message
        return
    assert all(re.fullmatch("[a-z][a-z0-9_-]{0,62}", key) for key in labels)
    assert tags_of(labels) == tags


def test_a_tag_that_is_a_valid_label_stays_as_it_is() -> None:
    tags = {"multicompute-id": "c-1f", "team_name": "nlp-2"}
    assert labels_of(tags) == tags


def test_a_long_owner_is_shortened_the_same_way_for_writing_and_for_filtering() -> None:
    owner = "Somebody.With.A.Long.Name@a-machine-with-a-long-name.example.org"
    label = labels_of({"multicompute-owner": owner})["multicompute-owner"]
    assert len(label) <= 63
    assert label in label_filter(Selector(owner=owner))
    assert has_selected_labels({"multicompute-id": "x", "multicompute-owner": label}, Selector(owner=owner))


def test_a_value_that_is_too_long_as_a_label_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequestError, match="Project"):
        labels_of({"Project": "X" * 40})


def test_an_empty_selector_finds_only_what_is_ours() -> None:
    assert label_filter(Selector()) == "labels.multicompute-id:*"
    assert not has_selected_labels({"team": "nlp"}, Selector())


@given(st.text(max_size=80))
def test_names_follow_rfc_1035_with_room_for_what_is_appended(token: str) -> None:
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", resource_name(token))
    assert len(part_name(token, 15) + "-0001") <= 63


def test_a_token_that_is_a_name_is_its_own_name() -> None:
    assert part_name("mc-0123456789abcdef01234567", 0) == "mc-0123456789abcdef01234567-0"


def test_request_ids_are_uuids_that_differ_by_every_word() -> None:
    ids = {request_id("bulk", "t", "0", "a"), request_id("bulk", "t", "1", "a"), request_id("bulk", "t", "0", "b")}
    assert len(ids) == 3
    assert request_id("bulk", "t", "0", "a") in ids


def test_a_description_contains_tags_and_one_that_we_did_not_write_contains_none() -> None:
    tags = {"multicompute-id": "id-1", "team": "NLP"}
    assert described_tags(description_of(tags)) == tags
    assert described_tags("allow SSH") == described_tags(None) == described_tags('["x"]') == {}


def test_a_description_that_would_be_too_long_keeps_our_own_tags() -> None:
    text = description_of({"multicompute-id": "id-1", **{f"key{number}": "x" * 60 for number in range(40)}})
    assert len(text) <= 2048
    assert described_tags(text) == {"multicompute-id": "id-1"}
