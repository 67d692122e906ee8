"""The catalog: its answers, the files that it reads, and its errors for malformed tables."""

import builtins
import io
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from multicompute.catalog import Catalog
from multicompute.errors import CatalogError


def test_listings_come_from_all_providers_in_a_fixed_order(folder: Path) -> None:
    lines = Catalog.at(folder).listings("h100")
    assert [(x.instance.provider, x.region.name, x.instance.name, x.purchase) for x in lines] == [
        ("north", "n-east", "Big.8", "on_demand"),
        ("north", "n-east", "Big.8", "spot"),
        ("north", "n-west", "Big.8", "on_demand"),
        ("south", "s-1", "box", "on_demand"),
    ]


def test_the_order_in_which_providers_are_given_does_not_matter(folder: Path) -> None:
    backwards = Catalog({"south": folder / "south", "north": folder / "north"})
    assert backwards.listings("h100") == Catalog.at(folder).listings("h100")
    assert backwards.providers == ("north", "south")


def test_a_line_has_all_values_of_its_offers(folder: Path) -> None:
    line = Catalog.at(folder).listings("h100")[0]
    assert (line.instance.accelerator, line.instance.accelerators, line.instance.accelerator_memory_gib) == (
        "h100",
        8,
        80,
    )
    assert (line.instance.vcpus, line.instance.memory_gib, line.instance.network_gbps) == (192, 2048, 3200)
    assert (line.instance.fabric, line.instance.network_cards, line.instance.arch) == ("efa", 32, "x86_64")
    assert (line.region.residency, line.region.country) == ("eu", "DE")
    assert (line.quote.hourly_cost, line.quote.as_of, line.quote.basis) == (88, date(2026, 10, 1), "list")
    assert line.quote.source == "North price page, read by hand"
    assert [offer.zone for offer in line.offers] == ["n-east-a", "n-east-b"]


def test_a_line_without_zones_is_one_offer_of_no_zone(folder: Path) -> None:
    spot = Catalog.at(folder).listings("h100")[1]
    assert [(offer.zone, offer.quote.basis) for offer in spot.offers] == [("", "estimate")]


def test_the_empty_name_means_the_types_without_accelerators(folder: Path) -> None:
    (line,) = Catalog.at(folder).listings("")
    assert (line.instance.name, line.instance.accelerator, line.instance.accelerators) == ("flex.1", "", 0)


def test_an_accelerator_that_no_provider_has_gives_no_lines(folder: Path) -> None:
    assert Catalog.at(folder).listings("mi300x") == ()
    assert Catalog.at(folder).listings("../north/h100") == ()


def test_the_lines_of_one_provider_can_be_selected(folder: Path) -> None:
    catalog = Catalog.at(folder)
    assert [line.instance.name for line in catalog.listings("h100", provider="south")] == ["box"]
    assert catalog.listings("h100", provider="west") == ()


def test_an_instance_type_is_found_by_its_name_in_any_case(folder: Path) -> None:
    (found,) = Catalog.at(folder).instances(" BIG.8 ")
    assert (found.provider, found.name) == ("north", "Big.8")


def test_a_name_with_other_accelerators_attached_gives_all_of_them(folder: Path) -> None:
    found = Catalog.at(folder).instances("flex.1")
    assert [(x.accelerator, x.accelerators, x.attached, x.retired) for x in found] == [
        ("", 0, False, False),
        ("t4", 1, True, False),
        ("t4", 2, True, True),
    ]


def test_a_type_without_a_price_is_known_by_name(folder: Path) -> None:
    catalog = Catalog.at(folder)
    assert [x.fabric for x in catalog.instances("soon.4")] == ["infiniband"]
    assert catalog.listings("gb300") == ()
    assert "gb300" not in catalog.accelerators()


def test_an_unknown_name_gives_no_instance_type(folder: Path) -> None:
    assert Catalog.at(folder).instances("big") == ()


def test_names_accelerators_and_regions_are_listed_in_order(folder: Path) -> None:
    catalog = Catalog.at(folder)
    assert catalog.instance_names() == ("Big.8", "box", "flex.1", "soon.4")
    assert catalog.accelerators() == ("h100", "t4")
    assert [(x.provider, x.name) for x in catalog.regions()] == [
        ("north", "n-east"),
        ("north", "n-west"),
        ("south", "s-1"),
    ]
    assert catalog.region("north", "n-west").residency == "us"


def test_an_unknown_region_or_provider_is_an_error_that_names_it(folder: Path) -> None:
    with pytest.raises(CatalogError, match="no region 's-9'"):
        Catalog.at(folder).region("south", "s-9")
    with pytest.raises(CatalogError, match="no offer tables of 'west'; providers with tables: north, south"):
        Catalog.at(folder).region("west", "s-9")


def test_offers_are_counted_with_their_zones(folder: Path) -> None:
    catalog = Catalog.at(folder)
    shards = ("", *catalog.accelerators())
    assert catalog.offer_count == 8
    assert catalog.offer_count == sum(len(line.offers) for shard in shards for line in catalog.listings(shard))


def test_info_summarizes_the_tables_of_each_provider(folder: Path) -> None:
    north, south = Catalog.at(folder).info()
    assert north.offers + south.offers == 8
    assert (north.provider, north.path, north.offers, north.instance_types, north.regions) == (
        "north",
        folder / "north",
        7,
        2,
        2,
    )
    assert (north.oldest, north.newest) == (date(2026, 10, 1), date(2026, 11, 1))
    assert (south.oldest, south.newest) == (date(2026, 11, 20), date(2026, 11, 20))


def test_providers_without_tables_are_ignored(folder: Path) -> None:
    catalog = Catalog({"static": None, "south": folder / "south"})
    assert catalog.providers == ("south",)
    assert catalog.offer_count == 1


def test_a_catalog_without_providers_is_empty() -> None:
    catalog = Catalog({})
    assert (catalog.listings("h100"), catalog.instances("x"), catalog.offer_count) == ((), (), 0)
    assert catalog.info() == ()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the files that are opened, by the last two parts of their paths."""
    files: list[str] = []

    # The test is about which files are read, and only the built-in open knows that.
    def spy(path: Any, *args: Any, **kwargs: Any) -> Any:
        files.append("/".join(Path(path).parts[-2:]))
        return io.open(path, *args, **kwargs)  # noqa: UP020 - the built-in open is replaced here

    monkeypatch.setattr(builtins, "open", spy)
    return files


def test_making_a_catalog_reads_nothing(folder: Path, opened: list[str]) -> None:
    assert Catalog({"north": folder / "north", "south": folder / "nowhere"}).providers == ("north", "south")
    assert opened == []


def test_a_query_reads_only_its_shard_and_only_once(folder: Path, opened: list[str]) -> None:
    catalog = Catalog({"north": folder / "north"})
    first = catalog.listings("t4")
    assert sorted(opened) == [
        "north/regions.csv",
        "north/shards.csv",
        "north/sources.csv",
        "t4/offers.csv",
        "t4/types.csv",
    ]
    assert catalog.listings("t4") is first
    assert len(opened) == 5


def test_counting_offers_reads_no_shard(folder: Path, opened: list[str]) -> None:
    assert Catalog({"north": folder / "north"}).offer_count == 7
    assert opened == ["north/shards.csv"]


def test_finding_an_instance_type_reads_no_prices(folder: Path, opened: list[str]) -> None:
    assert Catalog({"north": folder / "north"}).instances("big.8")
    assert sorted(opened) == ["h100/types.csv", "north/index.csv"]


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("h100/offers.csv", "hourly_usd", "price", "line 1: the columns must be instance_type"),
        ("h100/offers.csv", ",80,", ",0,", "line 2: hourly_usd '0' must be a positive number"),
        ("h100/offers.csv", ",80,", ",-1,", "line 2: hourly_usd '-1' must be a positive number"),
        ("h100/offers.csv", ",80,", ",nan,", "line 2: hourly_usd 'nan' must be a positive number"),
        ("h100/offers.csv", ",80,", ",inf,", "line 2: hourly_usd 'inf' must be a positive number"),
        ("h100/offers.csv", ",80,", ",cheap,", "line 2: hourly_usd 'cheap' must be a positive number"),
        ("h100/offers.csv", "2026-11-01", "soon", "line 2: as_of 'soon' must be a date"),
        ("h100/offers.csv", "estimate", "guess", "line 3: basis 'guess' must be one of list, estimate"),
        ("h100/offers.csv", "spot", "loan", "line 3: purchase 'loan' must be one of on_demand, spot, flex_start"),
        ("h100/offers.csv", "n-west", "mars", "line 2: region 'mars' is not in regions.csv"),
        ("h100/offers.csv", "page", "hearsay", "line 2: source 'hearsay' is not in sources.csv"),
        ("h100/offers.csv", "Big.8", "Huge.8", "line 2: Huge.8 with 8 accelerators is not in h100/types.csv"),
        ("h100/offers.csv", ",n-west-a", "", "line 2: has 8 fields instead of 9"),
        ("h100/types.csv", "x86_64", "mips", "line 2: Big.8: invalid value: mips"),
        ("h100/types.csv", "2048", "lots", "line 2: Big.8: .*lots"),
        ("h100/types.csv", "false", "no", "line 2: Big.8: invalid value: no"),
        ("t4/types.csv", "flex.1,2,", "flex.1,1,", "line 3: flex.1 with 1 accelerators is listed twice"),
        ("regions.csv", "n-west", "n-east", "line 3: region 'n-east': must be unique"),
        ("shards.csv", "h100,", "cpu,", "line 3: shard 'cpu' is listed twice"),
        ("shards.csv", ",3,4,", ",3,many,", "line 3: h100: .*many"),
    ],
)
def test_a_malformed_table_is_refused_by_file_and_line(
    folder: Path, file: str, old: str, new: str, message: str
) -> None:
    change(folder / "north" / file, old, new)
    with pytest.raises(CatalogError, match=message) as caught:
        for shard in ("h100", "t4"):
            Catalog.at(folder).listings(shard)
    assert str(folder / "north" / file) in str(caught.value)
    assert caught.value.hint


def test_a_table_that_is_not_text_is_refused(folder: Path) -> None:
    (folder / "north/regions.csv").write_bytes(b"region,residency,country,partition\n\xff\xfe\n")
    with pytest.raises(CatalogError, match=r"regions.csv: can't be read"):
        Catalog.at(folder).regions()


def test_the_error_for_a_missing_table_says_what_to_do(folder: Path) -> None:
    (folder / "north/h100/offers.csv").unlink()
    with pytest.raises(CatalogError, match=r"h100.offers.csv: an offer table is missing \(install") as caught:
        Catalog.at(folder).listings("h100")
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_folder_without_tables_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="can't read the folder of offer tables: No such file"):
        Catalog.at(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match="has no sub-folder with offer tables"):
        Catalog.at(tmp_path)


def test_the_folder_of_a_single_provider_is_refused(folder: Path) -> None:
    with pytest.raises(CatalogError, match="north: is the folder of a single provider .set `catalog`"):
        Catalog.at(folder / "north")


def test_a_sub_folder_without_tables_is_an_error(folder: Path) -> None:
    (folder / "west").mkdir()
    with pytest.raises(CatalogError, match=r"west.shards.csv: an offer table is missing"):
        Catalog.at(folder).listings("h100")


def test_hidden_folders_and_files_are_not_providers(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / "README.md").write_text("mine")
    assert Catalog.at(folder).providers == ("north", "south")
