"""Local clouds for a test or a command: all of them started at once, and the environment led to them."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from multicompute.errors import SpecError
from multicompute.provider import LocalCloud, ProviderPlugin, Resource


class LocalClouds:
    """The local clouds that run, by the names of their providers: `clouds.aws`, `clouds["aws"]`.

    Attributes:
        environment: the variables with which any process reaches them, and a ledger and configuration of their own.
    """

    def __init__(self, clouds: Mapping[str, LocalCloud], environment: Mapping[str, str]) -> None:
        self._clouds = dict(clouds)
        self.environment = dict(environment)

    # What a local cloud can do beyond `LocalCloud` is its own: hence Any.
    def __getitem__(self, name: str) -> Any:
        return self._clouds[name]

    def __getattr__(self, name: str) -> Any:
        clouds = self.__dict__.get("_clouds", {})
        if name not in clouds:
            raise AttributeError(f"no local cloud {name!r} is running; there are {', '.join(clouds) or 'none'}")
        return clouds[name]

    @property
    def names(self) -> tuple[str, ...]:
        """The providers whose local clouds run."""
        return tuple(self._clouds)

    def alive(self) -> list[Resource]:
        """Everything of any owner that exists in any of them; what the clouds themselves say, not the ledger."""
        found: list[Resource] = []
        for name in self._clouds:
            found += self[name].alive()
        return found


@contextmanager
def local_clouds(*names: str, **options: object) -> Iterator[LocalClouds]:
    """Run local clouds on 127.0.0.1 and lead this process and its children to them; stop them on leaving.

    The user's own accounts, configuration and ledger can't be reached from inside.

    Args:
        names: the providers; without any, every provider that brings a local cloud.
        options: attributes to set on each cloud before it starts, such as `lag` or `boot_delay` for AWS.

    Raises:
        SpecError: a name that no provider has, or a provider without a local cloud; an option that a cloud does not have.

    Example:
        with local_clouds("aws") as clouds:
            clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", 0)
            with Cluster.request(gpus=64, type="h100") as cluster:
                ...
            assert clouds.alive() == []
    """
    from multicompute.config import apply_environment

    made = _make(names)
    for cloud in made.values():
        _apply(cloud, options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multicompute-local-")))
        for cloud in made.values():
            stack.callback(cloud.stop)
        _start(list(made.values()))
        environment = _ledger(folder)
        for cloud in made.values():
            environment |= cloud.environment
        stack.enter_context(apply_environment(environment))
        yield LocalClouds(made, environment)


def _make(names: tuple[str, ...]) -> dict[str, LocalCloud]:
    from multicompute.plugins import discover

    plugins = discover()
    for name in names:
        if name not in plugins:
            raise SpecError(f"local_clouds: {name!r} is no provider; there are {', '.join(plugins)}")
    made: dict[str, LocalCloud] = {}
    for name, plugin in plugins.items():
        if names and name not in names:
            continue
        cloud = _local(plugin)
        if cloud is not None:
            made[name] = cloud
        elif names:
            raise SpecError(f"local_clouds: the provider {name!r} brings no local cloud")
    return made


def _local(plugin: ProviderPlugin) -> LocalCloud | None:
    try:
        return plugin.local()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "multicompute", type(plugin).__module__.partition(".")[0]):
            # A module of the provider's own that is not there is a bug, and no pip line mends it.
            raise
        raise SpecError(
            f"the local cloud of {plugin.name} needs {error.name}, which is not installed",
            hint='pip install "multicompute[testing]"',
        ) from error


def _apply(cloud: LocalCloud, options: Mapping[str, object]) -> None:
    for name, value in options.items():
        if name.startswith("_") or not hasattr(type(cloud), name) and name not in vars(cloud):
            raise SpecError(f"local_clouds: the local cloud of {cloud.name} has no option {name!r}")
        setattr(cloud, name, value)


def _start(clouds: list[LocalCloud]) -> None:
    """Start all of them side by side: each takes a second or two, most of it imports and sub-processes."""
    from concurrent.futures import ThreadPoolExecutor

    if not clouds:
        return
    with ThreadPoolExecutor(max_workers=len(clouds), thread_name_prefix="start-local") as pool:
        for started in [pool.submit(cloud.start) for cloud in clouds]:
            started.result()


def _ledger(folder: Path) -> dict[str, str]:
    return {
        # Not there: the defaults hold, and `init` may write one.
        "MULTICOMPUTE_CONFIG": str(folder / "config.toml"),
        "MULTICOMPUTE_STATE": f"sqlite:///{folder / 'state.db'}",
    }
