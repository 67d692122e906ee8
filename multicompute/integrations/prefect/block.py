"""The block: where clusters are written down, and what the clouds are reached with, kept by Prefect's server."""

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from prefect.blocks.core import Block
from prefect.types import SecretDict
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import Field, SecretStr

from multicompute.config import PREFIX, scoped_variables


class Multicompute(Block):
    """Credentials and configuration; what is left out is as on the machine that runs the flow.

    The ledger's URL and the variables are secrets: the server keeps them encrypted, and they are shown nowhere.

    Example:
        >>> Multicompute(state="postgresql://ml@db/clusters", environment={"AWS_ACCESS_KEY_ID": "..."}).save("team")
        >>> with cluster(gpus=8, type="h100", config="team"):
        ...     ...
    """

    _block_type_name: ClassVar[str] = "Multicompute"
    _block_type_slug: ClassVar[str] = "multicompute"
    _description: ClassVar[str] = (
        "Accelerator clusters: where they are written down, and with what the clouds are reached."
    )

    state: SecretStr | None = Field(
        default=None,
        title="Ledger",
        description="URL of the ledger. Flows that run on several machines need one that all of them reach: postgresql://...",
    )
    owner: str | None = Field(
        default=None, description="Whose clusters these are; all who share a ledger name the same."
    )
    default_ttl: str | None = Field(
        default=None, title="Default lifetime", description='Hard end of clusters that name none: "12h", or "none".'
    )
    settings: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        title="Settings of the clouds",
        description="Cloud, then key, then value, as in the tables [providers.NAME] of the configuration file.",
    )
    environment: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        title="Variables",
        description="Environment variables with credentials, by name. Only multicompute sees them.",
    )

    def variables(self) -> dict[str, str]:
        """All of it as environment variables. Holds secrets: not for logs."""
        found = {str(name): str(value) for name, value in self.environment.get_secret_value().items()}
        own = {
            "STATE": self.state.get_secret_value() if self.state else None,
            "OWNER": self.owner,
            "DEFAULT_TTL": self.default_ttl,
            **{f"{cloud}__{key}": value for cloud, keys in self.settings.items() for key, value in keys.items()},
        }
        return found | {f"{PREFIX}{key}".upper(): value for key, value in own.items() if value}


Configuration = Multicompute | str | None
"""A block, the name under which one is saved, or None for what is configured where the flow runs."""


def configured(block: Multicompute | None) -> AbstractContextManager[None]:
    """Let this thread or task work as the block says."""
    return nullcontext() if block is None else scoped_variables(block.variables())


async def aload(config: Configuration) -> Multicompute | None:
    """The block that is meant; asks the server where only its name is given."""
    return await Multicompute.aload(config) if isinstance(config, str) else config


def load(config: Configuration) -> Multicompute | None:
    """`aload` for code that runs in no event loop."""
    # Block.load would ask whether the flow is async, though this thread of it need not be.
    return run_coro_as_sync(aload(config))
