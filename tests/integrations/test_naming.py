"""Names and tags for clusters of a scheduler's runs: the same for the same work, and valid on every cloud."""

import re

from hypothesis import given
from hypothesis import strategies as st

from multicompute import ClusterSpec
from multicompute.integrations.naming import run_name, tag_value


@given(st.text(), st.lists(st.text()))
def test_a_name_is_a_valid_cluster_name_and_the_same_each_time(prefix: str, parts: list[str]) -> None:
    name = run_name(prefix, *parts)
    assert ClusterSpec.of({"gpus": 1, "type": "h100", "name": name}).name == name
    assert run_name(prefix, *parts) == name


def test_different_parts_give_different_names() -> None:
    assert run_name("train", "ab", "c") != run_name("train", "a", "bc")
    assert run_name("Train (nightly)", "1").startswith("train-nightly-")
    assert run_name("8-nodes", "1").startswith("run-8-nodes-")
    assert len(run_name("train" * 20, "1")) == 40


@given(st.text())
def test_a_tag_has_only_characters_that_every_cloud_accepts(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9 _.:/=+@-]{0,63}", tag_value(text))
