"""The local clouds of all providers, started together, with the environment pointing to them."""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from multicompute.clock import SystemClock
from multicompute.config import apply_environment
from multicompute.errors import SpecError
from multicompute.provider import ProviderPlugin, Resource
from multicompute.testing.local.cloud import LocalCloud
from multicompute.testing.local.machines import Machines

_Cloud = TypeVar("_Cloud")
_Local = TypeVar("_Local", bound=LocalCloud)


class LocalClouds:
    """The local clouds that run, by the names of their providers: `clouds.aws` or `clouds["aws"]`.

    Attributes:
        environment: The environment variables that connect any process to these clouds, to an empty ledger and to an empty
            configuration.
    """

    def __init__(self, clouds: Mapping[str, LocalCloud], environment: Mapping[str, str]) -> None:
        """Give access to clouds that run already; see `local_clouds`."""
        self._clouds = dict(clouds)
        self.environment = dict(environment)

    def __getitem__(self, name: str) -> LocalCloud:
        """Return the local cloud of the provider called `name`."""
        return self._clouds[name]

    def __getattr__(self, name: str) -> LocalCloud:
        """Return the local cloud of the provider called `name`."""
        clouds: Mapping[str, LocalCloud] = self.__dict__.get("_clouds", {})
        if name not in clouds:
            raise AttributeError(f"no local cloud {name!r} is running; running are {', '.join(clouds) or 'none'}")
        return clouds[name]

    def of(self, kind: type[_Cloud]) -> _Cloud:
        """Return the local cloud of a class, for what only this cloud can do.

        Args:
            kind: The class, such as `multicompute_gcp.local.GcpLocalCloud`.

        Raises:
            LookupError: No such cloud is running.
        """
        for cloud in self._clouds.values():
            if isinstance(cloud, kind):
                return cloud
        raise LookupError(f"no {kind.__name__} is running; running are {', '.join(self._clouds) or 'none'}")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the providers whose local clouds run."""
        return tuple(self._clouds)

    def alive(self) -> list[Resource]:
        """Return everything that exists in any of these clouds, whoever owns it; it does not ask the ledger."""
        return [resource for cloud in self._clouds.values() for resource in cloud.alive()]


@contextmanager
def running(cloud: _Local) -> Iterator[_Local]:
    """Run one local cloud while the block runs; the environment stays as it is.

    Args:
        cloud: A local cloud that is not started.

    Yields:
        The cloud.
    """
    cloud.start()
    try:
        yield cloud
    finally:
        cloud.stop()


@contextmanager
def local_clouds(*names: str, **options: object) -> Iterator[LocalClouds]:
    """Run local clouds on 127.0.0.1 while the block runs, and point this process and its children to them.

    Code in the block can't reach the user's accounts, configuration or ledger.

    Args:
        names: The providers; every provider that has a local cloud if none is named.
        options: Attributes to set on each cloud before it starts, such as `lag` or `boot_delay`.

    Yields:
        The clouds that run.

    Raises:
        SpecError: No provider has this name, a provider has no local cloud, or a cloud has no such option.

    Example:
        with local_clouds("aws") as clouds:
            clouds.aws.set_capacity("p5.48xlarge", "us-east-1a", 0)
            with Cluster.request(gpus=64, type="h100") as cluster:
                ...
            assert clouds.alive() == []
    """
    created = _create(names)
    for cloud in created.values():
        _apply(cloud, options)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="multicompute-local-")))
        for cloud in created.values():
            stack.callback(cloud.stop)
        _start(list(created.values()))
        for cloud in created.values():
            Machines(cloud, SystemClock()).install()
        environment = empty_configuration(folder, created)
        for cloud in created.values():
            environment |= cloud.environment
        stack.enter_context(apply_environment(environment))
        yield LocalClouds(created, environment)


def _create(names: tuple[str, ...]) -> dict[str, LocalCloud]:
    # Imported when it is called, so that a test can replace it.
    from multicompute.plugins import discover

    plugins = discover()
    for name in names:
        if name not in plugins:
            raise SpecError(f"local_clouds: no provider is called {name!r}; installed are {', '.join(plugins)}")
    created: dict[str, LocalCloud] = {}
    for name, plugin in plugins.items():
        if names and name not in names:
            continue
        cloud = local_cloud_of(plugin)
        if cloud is not None:
            created[name] = cloud
        elif names:
            raise SpecError(f"local_clouds: the provider {name!r} has no local cloud")
    return created


def local_cloud_of(plugin: ProviderPlugin) -> LocalCloud | None:
    """Return the local cloud of a provider, not started; None if it has none.

    Raises:
        SpecError: A package that it needs is not installed.
    """
    try:
        return plugin.local()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "multicompute", type(plugin).__module__.partition(".")[0]):
            # A module of the provider itself is missing: a bug, which no installation fixes.
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
    """Start all clouds at the same time: each takes up to two seconds, mostly for imports."""
    if not clouds:
        return
    with ThreadPoolExecutor(max_workers=len(clouds), thread_name_prefix="start-local") as pool:
        for started in [pool.submit(cloud.start) for cloud in clouds]:
            started.result()


def empty_configuration(folder: Path, clouds: Iterable[str]) -> dict[str, str]:
    """Return the environment variables of an empty configuration and an empty ledger in a folder.

    Args:
        folder: The folder.
        clouds: The only providers that can be used: the user may have credentials of others.
    """
    config = folder / "config.toml"
    # Empty: the defaults hold, and `init` can write one.
    config.touch()
    return {
        "MULTICOMPUTE_CONFIG": str(config),
        "MULTICOMPUTE_CLOUDS": ",".join(clouds),
        "MULTICOMPUTE_STATE": f"sqlite:///{folder / 'state.db'}",
    }
