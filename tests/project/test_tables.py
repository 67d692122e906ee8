"""The packaged offer tables, and the tool that builds them."""

import csv
import importlib.util
import subprocess
import sys
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest

from multicompute import accelerators
from multicompute.catalog import Catalog
from multicompute.catalog.checks import problems
from multicompute.catalog.tables import OFFERS, TYPES, rows
from multicompute.clock import SystemClock
from multicompute.offer import Listing

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "build_tables.py"
CLOUDS = ("aws", "azure", "gcp")
TABLES = {cloud: ROOT / "providers" / f"multicompute_{cloud}" / "data" for cloud in CLOUDS}


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(TABLES)


def every_line(catalog: Catalog) -> list[Listing]:
    return [line for shard in ("", *catalog.accelerators()) for line in catalog.listings(shard)]


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_packaged_tables_pass_every_check(cloud: str) -> None:
    known = {accelerator.name for accelerator in accelerators.known()}
    today = SystemClock().now().date()
    assert list(problems(cloud, TABLES[cloud], accelerators=known, today=today)) == []


# The same rules as the checks, tested on the catalog itself, so that a gap in the checks does not hide an error in the tables.
def test_every_price_is_unique_and_positive(catalog: Catalog) -> None:
    lines = every_line(catalog)
    keys = {(x.instance, x.region, x.purchase) for x in lines}
    assert len(keys) == len(lines) > 20_000
    assert all(line.quote.hourly_cost > 0 for line in lines)


def test_no_spot_price_is_above_the_on_demand_price(catalog: Catalog) -> None:
    lines = every_line(catalog)
    on_demand = {(x.instance, x.region): x.quote.hourly_cost for x in lines if x.purchase == "on_demand"}
    spot = [x for x in lines if x.purchase == "spot"]
    assert spot
    assert [x for x in spot if x.quote.hourly_cost > on_demand.get((x.instance, x.region), x.quote.hourly_cost)] == []


def test_every_offer_is_in_the_partition_that_every_account_reaches(catalog: Catalog) -> None:
    assert {line.region.partition for line in every_line(catalog)} == {"", "aws"}
    assert catalog.region("aws", "us-gov-west-1").partition == "aws-us-gov"


def test_every_accelerator_that_has_offers_is_known(catalog: Catalog) -> None:
    assert all(accelerators.get(name) for name in catalog.accelerators())


def test_every_price_has_a_date_a_source_and_a_basis(catalog: Catalog) -> None:
    lines = every_line(catalog)
    assert all(line.quote.source for line in lines)
    assert all(date(2025, 1, 1) < line.quote.as_of < date(2027, 1, 1) for line in lines)
    assert {line.quote.basis for line in lines} == {"list", "estimate"}


def test_shapes_that_are_not_sold_on_demand_have_no_on_demand_offer(catalog: Catalog) -> None:
    shapes = {"a3-highgpu-1g", "a3-highgpu-2g", "a3-highgpu-4g", "a3-ultragpu-8g", "a4-highgpu-8g", "a4x-highgpu-4g"}
    found = {(x.instance.name, x.purchase) for x in every_line(catalog) if x.instance.name in shapes}
    assert ("a3-highgpu-1g", "spot") in found
    assert ("a4-highgpu-8g", "flex_start") in found
    assert [name for name, purchase in found if purchase == "on_demand"] == []
    assert all(catalog.instances(name) for name in shapes)


def test_retired_types_are_marked(catalog: Catalog) -> None:
    assert all(x.retired for x in catalog.instances("Standard_NC6s_v3"))
    assert not any(x.retired for x in catalog.instances("p5.48xlarge"))


def test_index_and_count_agree_with_the_lines(catalog: Catalog) -> None:
    assert catalog.offer_count == sum(len(line.offers) for line in every_line(catalog)) > 40_000
    assert all(catalog.instances(name) for name in catalog.instance_names())


PRICES = [
    ("p5.48xlarge", "us-east-1", "on_demand", 55.04, "list"),
    ("p5.48xlarge", "us-east-2", "on_demand", 55.04, "estimate"),
    ("p4d.24xlarge", "us-east-1", "on_demand", 21.957642, "list"),
    ("p4de.24xlarge", "us-east-1", "on_demand", 27.44705, "list"),
    ("g7e.2xlarge", "us-east-1", "on_demand", 3.36312, "list"),
    ("p5en.48xlarge", "us-east-2", "on_demand", 63.296, None),
    ("p6-b200.48xlarge", "us-east-2", "on_demand", 113.9328, None),
    ("trn2.48xlarge", "us-east-2", "spot", 8.5964, "list"),
    ("Standard_ND96isr_H100_v5", "eastus", "on_demand", 98.32, "list"),
    ("Standard_NC40ads_H100_v5", "eastus", "on_demand", 6.98, "list"),
    ("Standard_ND128isr_NDR_GB200_v6", "eastus", "on_demand", 108.16, "list"),
    ("a3-highgpu-8g", "us-central1", "on_demand", 88.490000, "list"),
    ("a3-highgpu-1g", "us-central1", "spot", 6.326, "list"),
    ("a2-ultragpu-8g", "us-central1", "on_demand", 40.550383, "list"),
    ("a4-highgpu-8g", "us-central1", "spot", 39.63, "list"),
    ("g2-standard-4", "us-central1", "on_demand", 0.706832, "list"),
    ("v5p-128", "us-central1", "on_demand", 64 * 4.2, "list"),
    ("v5litepod-8", "us-west4", "spot", 8 * 0.456, "list"),
    ("v2-8", "us-central1", "on_demand", 4 * 1.125, "list"),
    ("v2-32", "us-central1", "on_demand", 16 * 1.5, "list"),
]


@pytest.mark.parametrize(("name", "region", "purchase", "price", "basis"), PRICES)
def test_the_tables_have_the_known_prices(
    catalog: Catalog, name: str, region: str, purchase: str, price: float, basis: str | None
) -> None:
    (instance,) = catalog.instances(name)
    (line,) = [
        line
        for line in catalog.listings(instance.accelerator)
        if (line.instance, line.region.name, line.purchase) == (instance, region, purchase)
    ]
    assert line.quote.hourly_cost == pytest.approx(price, rel=1e-4)
    assert basis in (None, line.quote.basis)


def test_a_machine_with_attached_accelerators_has_a_price_for_each_number_of_them(catalog: Catalog) -> None:
    found = {x.accelerators: x for x in catalog.instances("n1-standard-16") if x.accelerator == "t4"}
    assert sorted(found) == [1, 2, 4]
    assert all(x.attached for x in found.values())
    prices = {
        x.instance.accelerators: x.quote.hourly_cost
        for x in catalog.listings("t4", provider="gcp")
        if (x.instance.name, x.region.name, x.purchase) == ("n1-standard-16", "us-central1", "on_demand")
    }
    assert prices == pytest.approx({n: 0.759996 + n * 0.35 for n in (1, 2, 4)}, abs=1e-4)


def test_a_slice_is_one_node_of_many_hosts(catalog: Catalog) -> None:
    (found,) = catalog.instances("V5P-128")
    assert (found.accelerator, found.accelerators, found.hosts, found.accelerator_memory_gib) == ("tpu-v5p", 64, 16, 95)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a git checkout")
def test_the_packaged_files_are_not_ignored_by_git() -> None:
    paths = [*TABLES["gcp"].rglob("*.csv"), ROOT / "multicompute/data/accelerators.csv"]
    run = subprocess.run(["git", "check-ignore", *paths], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stdout, run.returncode) == ("", 1)


# The tool


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_tables", TOOL)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


INSTANCES = "instance_type,accelerator,accelerator_count,accelerator_memory_gib,vcpus,memory_gib,network_gbps,fabric,arch,status,source"
PRICE_COLUMNS = "instance_type,region,on_demand_usd_h,spot_usd_h,as_of,spot_as_of,price_basis,source,spot_source"
FACTS = {
    "accelerators": "canonical_name,family,vendor,kind,linked,memory_gib,bf16_tflops,fp16_tflops,fp8_tflops,tf32_tflops,"
    "fp32_tflops,mem_bandwidth_gbps,tdp_w,aliases,source,confidence,notes\n"
    "h100,h100,nvidia,gpu,true,80,989.4,,,,,,700,h100-sxm,datasheet,high,\n"
    "t4,t4,nvidia,gpu,false,16,,65,,,,,70,,datasheet,high,\n"
    "tpu-v2,tpu-v2,google,tpu,true,16,45,,,,,,,v2,page,high,\n",
    "regions": "cloud,region,residency,country,partition,zones\naws,us-east-1,us,US,aws,us-east-1a\n"
    "aws,us-gov-east-1,us,US,aws-us-gov,\nazure,eastus,us,US,,1;2\ngcp,us-central1,us,US,,\n",
    "aws_instances": INSTANCES + ",efa_max_interfaces\n"
    "p5,h100,8,80,192,2048,3200,efa,x86_64,current,api,32\nm5,,,,8,32,10,,x86_64,legacy,api,\n",
    "aws_prices": PRICE_COLUMNS + "\n"
    "p5,us-east-1,55.04,20.00004,2026-07-20,2026-08-10,us_parity,page,feed\n"
    "m5,us-east-1,0.384,0.38404,2025-03-02,2026-08-10,list,page,feed\n"
    "m5,us-gov-east-1,0.5,,2025-03-02,,list,page,\n",
    "aws_zones": "instance_type,region,zone\np5,us-east-1,us-east-1b\np5,us-east-1,us-east-1a\n",
    "azure_instances": INSTANCES + "\nND8,h100,8,80,96,1900,80,infiniband,x86_64,current,api\n",
    "azure_prices": PRICE_COLUMNS + "\nND8,eastus,98.32,98.32,2026-06-18,2026-05-20,list,page,page\n",
    "gcp_instances": INSTANCES + ",attachable,purchase_options\n"
    "n1,,,,4,15,10,,x86_64,current,api,false,on_demand;spot\n"
    "n1,t4,1,16,4,15,10,,x86_64,current,api,true,on_demand;spot\n"
    "n1,t4,2,16,4,15,10,,x86_64,current,api,true,on_demand;spot\n"
    "a3,h100,1,80,26,234,25,,x86_64,current,api,false,spot;flex_start\n",
    "gcp_prices": PRICE_COLUMNS + ",accelerator,accelerator_count,flex_start_usd_h,list_usd_h,notes\n"
    "n1,us-central1,0.19,0.04,2026-08-03,2026-08-03,list,page,page,,,,,\n"
    "n1,us-central1,0.54,0.18,2026-05-20,2026-05-20,composed,sum,sum,t4,1,,,\n"
    "n1,us-central1,0.89,0.32,2026-05-20,2026-05-20,composed,sum,sum,t4,2,,,\n"
    "a3,us-central1,11.06,6.3,2026-08-03,2026-08-03,list,page,page,h100,1,5,11.06,\n",
    "gcp_zones": "instance_type,accelerator,region,zone\nn1,,us-central1,us-central1-a\nn1,t4,us-central1,us-central1-b\n",
    "tpu_slices": "accelerator_type,generation,chips,hosts,hbm_gib_total,host_vcpus,host_memory_gib\n"
    "v2-8,tpu-v2,4,1,64,96,334\nv2-32,tpu-v2,16,4,256,96,334\n",
    "tpu_prices": "generation,slice_kind,region,zones,usd_per_chip_h,spot_usd_per_chip_h,as_of,spot_as_of,source\n"
    "tpu-v2,device,us-central1,us-central1-f;us-central1-b,1.125,0.3375,2026-05-20,2026-05-20,page\n"
    "tpu-v2,pod,us-central1,us-central1-a,1.5,,2026-05-20,,page\n",
}


@pytest.fixture
def facts(tmp_path: Path) -> Path:
    folder = tmp_path / "facts"
    folder.mkdir()
    for name, text in FACTS.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def built(root: Path) -> Catalog:
    return Catalog({cloud: root / "providers" / f"multicompute_{cloud}" / "data" for cloud in CLOUDS})


def offers(catalog: Catalog, accelerator: str) -> set[tuple[str, str, float, str, str]]:
    return {
        (x.instance.name, x.purchase, x.quote.hourly_cost, x.quote.basis, ";".join(x.zones))
        for x in catalog.listings(accelerator)
    }


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.csv")}


def test_the_tool_builds_tables_from_a_folder_of_facts(tool: ModuleType, facts: Path, tmp_path: Path) -> None:
    assert tool.main([str(facts), "--into", str(tmp_path / "out")]) == 0
    catalog = built(tmp_path / "out")
    assert offers(catalog, "h100") == {
        ("p5", "on_demand", 55.04, "estimate", "us-east-1a;us-east-1b"),
        ("p5", "spot", 20.00004, "list", "us-east-1a;us-east-1b"),
        ("ND8", "on_demand", 98.32, "list", ""),
        ("ND8", "spot", 98.32, "list", ""),
        ("a3", "spot", 6.3, "list", ""),
        ("a3", "flex_start", 5.0, "list", ""),
    }
    assert offers(catalog, "t4") == {
        ("n1", "on_demand", 0.54, "estimate", "us-central1-b"),
        ("n1", "spot", 0.18, "estimate", "us-central1-b"),
        ("n1", "on_demand", 0.89, "estimate", "us-central1-b"),
        ("n1", "spot", 0.32, "estimate", "us-central1-b"),
    }
    assert offers(catalog, "tpu-v2") == {
        ("v2-8", "on_demand", 4.5, "list", "us-central1-b;us-central1-f"),
        ("v2-8", "spot", 1.35, "list", "us-central1-b;us-central1-f"),
        ("v2-32", "on_demand", 24.0, "list", "us-central1-a"),
    }


def test_other_partitions_have_no_offers_and_rounded_spot_prices_do_not_exceed(
    tool: ModuleType, facts: Path, tmp_path: Path
) -> None:
    assert tool.main([str(facts), "--into", str(tmp_path / "out")]) == 0
    lines = built(tmp_path / "out").listings("", provider="aws")
    assert [(x.region.name, x.purchase, x.quote.hourly_cost) for x in lines] == [
        ("us-east-1", "on_demand", 0.384),
        ("us-east-1", "spot", 0.384),
    ]
    assert lines[0].instance.retired


def test_building_twice_gives_the_same_files_and_removes_obsolete_ones(
    tool: ModuleType, facts: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert tool.main([str(facts), "--into", str(out)]) == 0
    first = contents(out)
    stale = out / "providers/multicompute_aws/data/l4/offers.csv"
    stale.parent.mkdir()
    stale.write_text("old")
    assert tool.main([str(facts), "--into", str(out)]) == 0
    assert contents(out) == first
    assert not list(out.rglob("data.new"))


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("aws_prices", "55.04", "0", "aws_prices.csv, line 2: on_demand_usd_h='0' must be a positive number"),
        ("aws_prices", "55.04", "much", "line 2: on_demand_usd_h='much' must be a positive number"),
        ("aws_prices", "us_parity", "hunch", "line 2: price_basis='hunch' must be one of list, us_parity"),
        ("aws_prices", "2026-07-20", "", "line 2: the on_demand price has no valid date"),
        ("aws_prices", "page,feed", ",feed", "line 2: the on_demand price has no source"),
        ("aws_prices", "p5,", "p6,", "line 2: p6 is not in aws_instances.csv"),
        ("aws_prices", "us-east-1", "us-east-9", "line 2: region 'us-east-9' is not in regions.csv"),
        ("aws_prices", "price_basis", "basis", "line 1: no column price_basis"),
        ("aws_prices", ",page,feed", ",page", "line 2: wrong number of fields"),
        ("aws_prices", "20.00004", "55.05", "p5 in us-east-1, spot: 55.05 is more than the on-demand price of 55.04"),
        ("aws_zones", "us-east-1b", "us-west-1b", "zone us-west-1b is not in region us-east-1"),
        ("aws_instances", "p5,h100", "p5,h900", "shard h900: no such accelerator"),
        ("aws_instances", "m5,", "p5,", "p5 is listed twice"),
        ("aws_instances", "current", "old", "status='old' must be one of current, legacy"),
        ("gcp_instances", "spot;flex_start", "spot;barter", "purchase_options='barter' must be one of"),
        ("tpu_prices", "device", "half", "tpu-v2 half is not in tpu_slices.csv"),
        ("accelerators", "true,80", "true,-80", "memory_gib=-80: must be a positive size"),
        ("accelerators", "h100-sxm", "t4", "means both"),
        ("gcp_prices", "n1,us-central1,0.19", "n1,us-central1,0.03", "n1 in us-central1, spot: 0.04 is more than"),
    ],
)
def test_wrong_facts_are_named_and_nothing_is_replaced(
    tool: ModuleType,
    facts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    table: str,
    old: str,
    new: str,
    message: str,
) -> None:
    out = tmp_path / "out"
    assert tool.main([str(facts), "--into", str(out)]) == 0
    before = contents(out)
    path = facts / f"{table}.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    assert tool.main([str(facts), "--into", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "nothing was changed" in error
    assert contents(out) == before
    assert not list(out.rglob("data.new"))


def test_the_command_names_the_missing_table(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, TOOL, tmp_path, "--into", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "accelerators.csv: can't be read" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("cloud", CLOUDS)
def test_the_packaged_tables_are_plain_text_in_the_documented_order(cloud: str) -> None:
    for path in TABLES[cloud].rglob("*.csv"):
        assert b"\r" not in path.read_bytes()
    for path in TABLES[cloud].glob("*/offers.csv"):
        region, name = OFFERS.index("region"), OFFERS.index("instance_type")
        keys = [(row[region], row[name], float(row[1]), row[3]) for _, row in rows(path, OFFERS)]
        assert keys == sorted(keys)
        with path.with_name("types.csv").open(newline="") as file:
            assert next(csv.reader(file)) == list(TYPES)
