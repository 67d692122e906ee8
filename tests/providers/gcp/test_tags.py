"""Tags survive their encoding as labels and descriptions unchanged, and names are valid in Compute Engine."""

import re

from hypothesis import given
from hypothesis import strategies as st

from multicompute.provider import Selector
from multicompute_gcp._names import part_name, request_id, resource_name
from multicompute_gcp._tags import described_tags, description_of, is_selected, label_filter, labels_of, tags_of

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=6))
def test_tags_of_any_text_are_valid_labels_and_are_read_back_unchanged(tags: dict[str, str]) -> None:
    tags = {"multicompute-id": "id-1", **tags}
    labels = labels_of(tags)
    assert len(labels) == len(tags)
    assert all(re.fullmatch("[a-z][a-z0-9_-]{0,62}", key) for key in labels)
    assert all(re.fullmatch("[a-z0-9_-]{0,63}", value) for value in labels.values())
    assert tags_of(labels, description_of(tags)) == tags


def test_a_tag_that_is_a_valid_label_stays_as_it_is() -> None:
    tags = {"multicompute-id": "c-1f", "team_name": "nlp-2"}
    assert labels_of(tags) == tags


def test_labels_of_ordinary_tags_are_readable() -> None:
    tags = {"Cost Center": "R&D 2026", "kubernetes.io/name": "Vision", "2nd": "x" * 80}
    assert labels_of(tags) == {"cost_center": "r_d_2026", "kubernetes_io_name": "vision", "x_2nd": "x" * 63}


def test_tags_whose_labels_would_be_equal_have_labels_of_their_own() -> None:
    tags = {"multicompute-id": "id-1", "Team": "a", "TEAM": "b", "team": "c", "Multicompute-ID": "d"}
    labels = labels_of(tags)
    assert (labels["team"], labels["multicompute-id"]) == ("c", "id-1")
    assert tags_of(labels, description_of(tags)) == tags


def test_labels_that_were_changed_in_the_console_are_listed_as_they_are_now() -> None:
    tags = {"multicompute-id": "id-1", "Team": "NLP", "Stage": "Prod"}
    labels = {**labels_of(tags), "team": "vision", "added": "later"}
    del labels["stage"]
    assert tags_of(labels, description_of(tags)) == {"multicompute-id": "id-1", "Team": "vision", "added": "later"}


def test_a_long_owner_is_shortened_the_same_way_for_writing_and_for_filtering() -> None:
    owner = "Somebody.With.A.Long.Name@a-machine-with-a-long-name.example.org"
    tags = {"multicompute-id": "x", "multicompute-owner": owner}
    labels = labels_of(tags)
    assert len(labels["multicompute-owner"]) <= 63
    assert labels["multicompute-owner"] in label_filter(Selector(owner=owner))
    assert is_selected(labels, description_of(tags), Selector(owner=owner))
    assert not is_selected(labels, description_of(tags), Selector(owner=owner.lower()))


def test_a_filter_finds_the_labels_of_earlier_versions_too() -> None:
    assert label_filter(Selector(cluster_id="c-1", owner="me@host")) == (
        '(labels.multicompute-id = "c-1") AND (labels.multicompute-owner = "me_host") OR (labels.multicompute-owner = "me__40host")'
    )
    old = {"multicompute-id": "c-1", "multicompute-owner": "me__40host", "k__00__54eam": "__4e__4c__50"}
    assert is_selected(old, None, Selector(cluster_id="c-1", owner="me@host"))
    assert tags_of(old) == {"multicompute-id": "c-1", "multicompute-owner": "me@host", "Team": "NLP"}


def test_an_empty_selector_finds_only_what_is_ours() -> None:
    assert label_filter(Selector()) == "labels.multicompute-id:*"
    assert not is_selected({"team": "nlp"}, None, Selector())


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
