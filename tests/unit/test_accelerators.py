"""The names that users write for accelerators."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multicompute import accelerators
from multicompute.accelerators import COLUMNS, find, get, index_names, known, read, split_count, suggest
from multicompute.errors import CatalogError


def names(name: str) -> list[str]:
    return [accelerator.name for accelerator in find(name)]


@pytest.mark.parametrize(
    ("family", "variants"),
    [
        ("h100", ["h100", "h100-nvl"]),
        ("A100", ["a100", "a100-80gb"]),
        ("v100", ["v100", "v100-32gb"]),
        ("Trainium", ["trainium1", "trainium2", "trainium3"]),
        ("inferentia", ["inferentia1", "inferentia2"]),
    ],
)
def test_a_family_means_every_variant(family: str, variants: list[str]) -> None:
    assert names(family) == variants


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        ("h100-nvl", "h100-nvl"),
        ("H100 NVL", "h100-nvl"),
        ("h100-sxm", "h100"),
        ("h100-80gb", "h100"),
        ("H100 80GB", "h100"),
        ("NVIDIA H100", "h100"),
        ("H100 94GB", "h100-nvl"),
        ("a100-80gb", "a100-80gb"),
        ("A100 80GB", "a100-80gb"),
        ("a100_40gb", "a100"),
        ("A100 40 GB", "a100"),
        ("NVIDIA A100 40GB", "a100"),
        ("Tesla V100 32GB", "v100-32gb"),
        ("NVIDIA Tesla T4", "t4"),
        ("L40S 48GB", "l40s"),
        ("TPU v6e", "tpu-v6e"),
        ("v5p", "tpu-v5p"),
        ("tpu-v5-lite", "tpu-v5e"),
        ("Google TPU v4", "tpu-v4"),
        ("TPU7x", "tpu7x"),
        ("trn1", "trainium1"),
        ("AWS Trainium 2", "trainium2"),
        ("rtx pro 6000", "rtx-pro-6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("  a10g ", "a10g"),
    ],
)
def test_the_name_or_alias_of_a_variant_means_only_that_variant(name: str, variant: str) -> None:
    assert names(name) == [variant]


@pytest.mark.parametrize(
    "name", ["", "  ", "nvidia", "gh200", "a100-160gb", "h100-pcie", "p5.48xlarge", "v5p-128", "-"]
)
def test_an_unknown_name_means_nothing(name: str) -> None:
    assert find(name) == ()


@given(st.sampled_from(known()), st.data())
def test_case_and_separators_do_not_matter(accelerator: accelerators.Accelerator, data: st.DataObject) -> None:
    alias = data.draw(st.sampled_from((accelerator.name, accelerator.family, *accelerator.aliases)))
    separator = data.draw(st.sampled_from(["", " ", "-", "_", " - "]))
    typed = alias.replace("-", separator)
    assert accelerator in find(data.draw(st.sampled_from([typed, typed.upper(), f" {typed}\t"])))


@given(st.text(max_size=40))
def test_any_text_is_accepted_without_an_error(name: str) -> None:
    assert set(find(name)) <= set(known())
    assert len(suggest(name)) <= 3
    count = split_count(name)
    assert count is None or count[1] >= 0


@pytest.mark.parametrize(
    ("name", "likely"),
    [("h10", "h100"), ("gh200", "h200"), ("A10G:4", "a10g"), ("rtx4500", "rtx-pro-4500"), ("tpu-v5", "tpu-v5e")],
)
def test_an_unknown_name_gets_suggestions_that_are_known(name: str, likely: str) -> None:
    suggestions = suggest(name)
    assert likely in suggestions
    assert all(find(suggestion) for suggestion in suggestions)


def test_suggestions_can_come_from_further_names() -> None:
    assert suggest("p5.48xlage", among=["p5.48xlarge", "m7i.large"])[0] == "p5.48xlarge"


def test_an_empty_name_has_no_suggestions() -> None:
    assert suggest(" - ") == ()


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("A10G:4", ("A10G", 4)),
        ("a100-80gb:8", ("a100-80gb", 8)),
        ("4xH100", ("H100", 4)),
        ("8 x H100", ("H100", 8)),
        ("H100x8", ("H100", 8)),
        ("H100*8", ("H100", 8)),
        ("8×A100 80GB", ("A100 80GB", 8)),
        ("tpu7x:16", ("tpu7x", 16)),
        ("unheard-of:4", ("unheard-of", 4)),
    ],
)
def test_a_count_in_a_name_is_recognised(name: str, parts: tuple[str, int]) -> None:
    assert split_count(name) == parts


@pytest.mark.parametrize(
    "name", ["h100", "tpu7x", "v5p-128", "p5.48xlarge", "m7i.2xlarge", "2xlarge", "foox3", ":4", "4x"]
)
def test_a_name_without_a_count_is_left_alone(name: str) -> None:
    assert split_count(name) is None


def test_the_packaged_table_holds_the_figures_of_the_datasheets() -> None:
    h100 = get("h100")
    assert h100 is not None
    assert (h100.memory_gib, h100.bf16_tflops, h100.linked, h100.kind) == (80, 989.4, True, "gpu")
    v100 = get("v100")
    assert v100 is not None
    assert v100.bf16_tflops is None
    assert get("H100") is None


def row(**cells: str) -> str:
    filled = {"name": "x1", "family": "x", "vendor": "x", "kind": "gpu", "linked": "true", "memory_gib": "80"} | cells
    return ",".join(filled.get(column, "") for column in COLUMNS)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["name,family"], "line 1: the columns must be"),
        ([",".join(COLUMNS), row(memory_gib="much")], "line 2: not a number"),
        ([",".join(COLUMNS), row(memory_gib="0")], "line 2: memory_gib=0: must be a positive size"),
        ([",".join(COLUMNS), row(linked="maybe")], "line 2: name and family are required"),
        ([",".join(COLUMNS), row(), row()], "line 3: x1 is listed twice"),
    ],
)
def test_a_malformed_table_is_refused_by_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    path = tmp_path / "accelerators.csv"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(CatalogError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_missing_table_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="nowhere.csv: can't be read"):
        read(tmp_path / "nowhere.csv")


def test_one_name_for_two_accelerators_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "accelerators.csv"
    path.write_text("\n".join([",".join(COLUMNS), row(), row(name="y1", family="y", aliases="X-1")]) + "\n")
    with pytest.raises(CatalogError, match="means both x1 and y1"):
        index_names(read(path).values())
