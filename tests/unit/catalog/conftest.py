"""The tables of two small providers, in a folder like a user's own."""

from pathlib import Path

import pytest

TYPES = (
    "instance_type,accelerators,accelerator_memory_gib,vcpus,memory_gib,hosts,network_gbps,fabric,arch,network_cards,"
    "attached,retired,purchases,source\n"
)
OFFERS = "instance_type,accelerators,region,purchase,hourly_usd,as_of,basis,source,zones\n"

NORTH = {
    "regions.csv": "region,residency,country,partition\nn-east,eu,DE,\nn-west,us,US,\n",
    "sources.csv": 'key,source\npage,"North price page, read by hand"\n',
    "index.csv": "instance_type,shard\nBig.8,h100\nflex.1,cpu\nflex.1,t4\n",
    "shards.csv": "shard,types,lines,offers,oldest,newest\n"
    "cpu,1,1,1,2026-11-01,2026-11-01\nh100,1,3,4,2026-10-01,2026-11-01\nt4,2,2,2,2026-11-01,2026-11-01\n",
    "h100/types.csv": TYPES + "Big.8,8,80,192,2048,1,3200,efa,x86_64,32,false,false,,page\n",
    "h100/offers.csv": OFFERS
    + "Big.8,8,n-west,on_demand,80,2026-11-01,list,page,n-west-a\n"
    + "Big.8,8,n-east,spot,31.5,2026-11-01,estimate,page,\n"
    + "Big.8,8,n-east,on_demand,88,2026-10-01,list,page,n-east-a;n-east-b\n",
    "t4/types.csv": TYPES
    + "flex.1,1,16,4,15,1,,,x86_64,,true,false,,page\nflex.1,2,16,4,15,1,,,x86_64,,true,true,,page\n",
    "t4/offers.csv": OFFERS
    + "flex.1,1,n-east,on_demand,0.5,2026-11-01,list,page,\nflex.1,2,n-east,on_demand,0.9,2026-11-01,list,page,\n",
    "cpu/types.csv": TYPES + "flex.1,0,,4,15,1,10,,arm64,,false,false,,page\n",
    "cpu/offers.csv": OFFERS + "flex.1,0,n-east,on_demand,0.2,2026-11-01,list,page,\n",
}
SOUTH = {
    "regions.csv": "region,residency,country,partition\ns-1,br,BR,\n",
    "sources.csv": "key,source\nq,quote\n",
    "index.csv": "instance_type,shard\nsoon.4,gb300\nbox,h100\n",
    "shards.csv": "shard,types,lines,offers,oldest,newest\ngb300,1,0,0,,\nh100,1,1,1,2026-11-20,2026-11-20\n",
    "h100/types.csv": TYPES + "box,4,80,96,1024,1,100,,x86_64,,false,false,on_demand,q\n",
    "h100/offers.csv": OFFERS + "box,4,s-1,on_demand,9.75,2026-11-20,list,q,\n",
    "gb300/types.csv": TYPES + "soon.4,4,279,128,,1,,infiniband,arm64,,false,false,,q\n",
    "gb300/offers.csv": OFFERS,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with the tables of the providers `north` and `south`."""
    for provider, files in {"north": NORTH, "south": SOUTH}.items():
        for name, text in files.items():
            path = tmp_path / provider / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return tmp_path
