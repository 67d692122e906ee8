"""Uses the installed wheel as a newcomer would, from outside the checkout: smoke.py EXTRA CHECKOUT."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import multicompute
from multicompute import Cluster, errors


def main(extra: str, checkout: str) -> None:
    """Fail with an AssertionError at the first thing that does not work."""
    home = Path(multicompute.__file__).resolve()
    assert not home.is_relative_to(Path(checkout).resolve() / "multicompute"), f"{home} is the checkout, not the wheel"

    plan = Cluster.plan(gpus=64, type="h100")
    assert {candidate.provider for candidate in plan.candidates} == {"aws", "azure", "gcp"}

    offers = run("offers", "h100", "--json")
    assert offers.returncode == 0, offers.stderr
    assert json.loads(offers.stdout)[0]["hourly_usd"] > 0

    sized = run("size", "--params", "7B", "--tokens", "1T", "--type", "h100", "--deadline", "30d", "--json")
    assert sized.returncode == 0, sized.stderr
    assert json.loads(sized.stdout)["options"][0]["fits"], sized.stdout

    if extra == "testing":
        launch()
    elif extra == "plot":
        draw()
    elif extra == "ssh":
        list_own_machines()
    elif extra in ("none", "gcp", "azure"):
        refused = run("up", "--gpus", "8", "--type", "h100", "--cloud", "aws")
        assert refused.returncode == errors_status(), refused
        assert 'pip install "multicompute[aws]"' in refused.stderr, refused.stderr
    sys.stdout.write(f"Python {sys.version.split()[0]}, extra {extra}: {home.parent} works\n")


def launch() -> None:
    """Launch a complete gang on each local cloud, and check that nothing is left."""
    from multicompute.testing import local_clouds

    with local_clouds("aws", "azure", "gcp") as clouds:
        for name in clouds.names:
            with Cluster.request(gpus=16, type="h100", clouds=[name], progress=False) as cluster:
                assert len(cluster.nodes) == 2
        assert clouds.alive() == []


def draw() -> None:
    """Draw the options of a model."""
    drawn = run("size", "--params", "7B", "--tokens", "1T", "--type", "h100", "--plot", "options.png")
    assert drawn.returncode == 0, drawn.stderr
    assert Path("options.png").read_bytes().startswith(b"\x89PNG")


def list_own_machines() -> None:
    """Plan with a machine of an inventory, and check it: nothing answers there."""
    Path("hosts.toml").write_text(
        '[[hosts]]\naddress = "127.0.0.1"\nport = 1\naccelerator = "h100"\naccelerators = 8\n', encoding="utf-8"
    )
    own = {"MULTICOMPUTE_STATIC__INVENTORY": str(Path("hosts.toml").absolute())}
    planned = run("plan", "--gpus", "8", "--type", "h100", "--json", own=own)
    assert json.loads(planned.stdout)["candidates"][0]["provider"] == "static", planned
    checked = run("hosts", "--check", "--json", own=own)
    assert checked.returncode == 1, checked
    assert json.loads(checked.stdout)[0]["reason"], checked.stdout


def errors_status() -> int:
    """The exit status of a request that no provider can take: that of AuthError."""
    from multicompute.cli.status import exit_status

    return exit_status(errors.AuthError("no provider"))


def run(*arguments: str, own: Mapping[str, str] = MappingProxyType({})) -> "subprocess.CompletedProcess[str]":
    """Run the console script that was installed with this Python."""
    script = Path(sys.executable).parent / "multicompute"
    # Whoever runs this may have a ledger, a configuration and accounts of their own.
    environment = {"PATH": os.environ["PATH"], "HOME": os.getcwd(), "AWS_EC2_METADATA_DISABLED": "true", **own}
    return subprocess.run([str(script), *arguments], env=environment, capture_output=True, text=True, check=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
