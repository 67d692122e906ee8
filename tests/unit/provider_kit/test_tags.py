"""A selector asks for our tags with its values, and a tag survives a small alphabet."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import errors
from multicompute.provider import TAG_ATTEMPT, TAG_ID, TAG_OWNER, Selector
from multicompute.provider_kit.tags import check_tag_keys, decode_tag, encode_tag, is_selected, selected_tags

OURS = {TAG_ID: "c", TAG_ATTEMPT: "t", TAG_OWNER: "me"}


def test_a_selector_asks_for_the_tags_that_it_names() -> None:
    assert selected_tags(Selector()) == {}
    assert selected_tags(Selector(cluster_id="c", owner="me")) == {TAG_ID: "c", TAG_OWNER: "me"}
    assert selected_tags(Selector(token="t")) == {TAG_ATTEMPT: "t"}


@pytest.mark.parametrize(
    ("tags", "selector", "expected"),
    [
        (OURS, Selector(), True),
        (OURS, Selector(cluster_id="c", token="t", owner="me"), True),
        (OURS, Selector(cluster_id="other"), False),
        (OURS, Selector(owner="other"), False),
        ({TAG_OWNER: "me"}, Selector(owner="me"), False),
        ({}, Selector(), False),
    ],
)
def test_only_what_has_our_tags_is_selected(tags: dict[str, str], selector: Selector, expected: bool) -> None:
    assert is_selected(tags, selector) is expected


def test_a_name_that_the_cloud_would_refuse_is_refused_before_it_is_called() -> None:
    check_tag_keys({"team": "nlp"}, "[a-z]+", provider="example", allowed="a-z")
    with pytest.raises(errors.InvalidRequestError, match="'Team' is not accepted; Example allows a-z"):
        check_tag_keys({"Team": "nlp"}, "[a-z]+", provider="example", allowed="Example allows a-z")


TEXTS = st.text(st.characters(codec="utf-8"))


@given(TEXTS, TEXTS)
def test_texts_that_differ_have_labels_that_differ_and_can_be_read_back(text: str, other: str) -> None:
    assert re.fullmatch(r"[a-z0-9_-]*", encode_tag(text))
    assert decode_tag(encode_tag(text)) == text
    assert (encode_tag(text) == encode_tag(other)) is (text == other)


def test_a_label_that_was_not_encoded_is_read_as_it_is() -> None:
    assert decode_tag("plain_label") == "plain_label"
    assert decode_tag("__ff") == "__ff"
