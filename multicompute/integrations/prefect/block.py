"""The block: the ledger, the settings and the credentials, stored by Prefect's server."""

from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from prefect.blocks.core import Block
from prefect.types import SecretDict
from prefect.utilities.asyncutils import run_coro_as_sync
from pydantic import Field, SecretStr

from multicompute.config import PREFIX, scoped_variables


class Multicompute(Block):
    """Configuration and credentials. The configuration of the machine that runs the flow applies to missing values.

    The ledger's URL and the variables are secrets: the server stores them encrypted and never shows them.

    Example:
        >>> Multicompute(state="postgresql://ml@db/clusters", environment={"AWS_ACCESS_KEY_ID": "..."}).save("team")
        >>> with cluster(gpus=8, type="h100", config="team"):
        ...     ...
    """

    _block_type_name: ClassVar[str] = "Multicompute"
    _block_type_slug: ClassVar[str] = "multicompute"
    _description: ClassVar[str] = (
        "Accelerator clusters: the ledger that records them, and the credentials of the clouds."
    )

    state: SecretStr | None = Field(
        default=None,
        title="Ledger",
        description="URL of the ledger. Flows on several machines need one that all of them can reach: postgresql://...",
    )
    owner: str | None = Field(
        default=None, description="Owner of the clusters. Everyone who shares a ledger uses the same owner."
    )
    default_ttl: str | None = Field(
        default=None,
        title="Default ttl",
        description='Time to live of clusters without a ttl of their own: "12h", or "none".',
    )
    settings: dict[str, dict[str, str]] = Field(
        default_factory=dict,
        title="Cloud settings",
        description="Cloud, then key, then value, as in the tables [providers.NAME] of the configuration file.",
    )
    environment: SecretDict = Field(
        default_factory=lambda: SecretDict({}),
        title="Variables",
        description="Environment variables with credentials, by name. Only multicompute sees them.",
    )

    def variables(self) -> dict[str, str]:
        """Return all values as environment variables. They include secrets and must not be logged."""
        found = {str(name): str(value) for name, value in self.environment.get_secret_value().items()}
        own = {
            "STATE": self.state.get_secret_value() if self.state else None,
            "OWNER": self.owner,
            "DEFAULT_TTL": self.default_ttl,
            **{f"{cloud}__{key}": value for cloud, keys in self.settings.items() for key, value in keys.items()},
        }
        return found | {f"{PREFIX}{key}".upper(): value for key, value in own.items() if value}


Configuration = Multicompute | str | None
"""A block, the name of a saved block, or None for the configuration of the machine that runs the flow."""


def configured(block: Multicompute | None) -> AbstractContextManager[None]:
    """Apply the block to this thread or asyncio task."""
    return nullcontext() if block is None else scoped_variables(block.variables())


async def aload(config: Configuration) -> Multicompute | None:
    """Return the block, loaded from the server if `config` is a name."""
    return await Multicompute.aload(config) if isinstance(config, str) else config


def load(config: Configuration) -> Multicompute | None:
    """Do the same as `aload`, for code outside of an event loop."""
    # Not Block.load, which checks whether the flow is async. This thread of an async flow may still have no event loop.
    return run_coro_as_sync(aload(config))
