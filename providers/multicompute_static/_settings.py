"""The settings of own machines, and where their inventory is."""

from datetime import timedelta
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field

from multicompute.errors import ConfigError
from multicompute.provider import Configured, Settings
from multicompute.provider_kit.settings import SETTINGS, Duration, Environment, read_settings

DEFAULT: Final = "~/.config/multicompute/hosts.toml"


class StaticSettings(BaseModel):
    """The table `[providers.static]`, checked."""

    model_config = SETTINGS

    inventory: str | None = Field(None, description=f'The file that lists the machines. Default: "{DEFAULT}".')
    ssh_config: str = Field(
        "~/.ssh/config",
        description='The OpenSSH configuration to apply; the inventory takes precedence. "none" for none. Default: "~/.ssh/config".',
    )
    set_aside: Duration = Field(
        timedelta(minutes=10),
        description='How long a machine that fails the check before a launch is not tried again. Default: "10m".',
    )
    environment: Environment = {}

    @classmethod
    def of(cls, settings: Settings) -> "StaticSettings":
        """Check what the plug-in is opened with."""
        return read_settings(cls, settings, provider="static")

    @property
    def path(self) -> Path:
        """The file of the inventory, whether or not it exists."""
        return self.expanded(self.inventory or DEFAULT)

    @property
    def ssh_config_path(self) -> Path | None:
        """The OpenSSH configuration to apply; None for none."""
        return None if self.ssh_config.lower() == "none" else self.expanded(self.ssh_config)

    @property
    def known_hosts_path(self) -> Path:
        """The host keys that the user trusts already."""
        return self.expanded("~/.ssh/known_hosts")

    def expanded(self, path: str) -> Path:
        """Return a path with "~" replaced by the home folder of the environment."""
        home = self.environment.get("HOME")
        return Path(home, path[2:]) if home and path.startswith("~/") else Path(path).expanduser()

    def configured(self) -> Configured:
        """Return whether there is an inventory.

        Raises:
            ConfigError: The inventory that the configuration names does not exist.
        """
        if self.path.is_file():
            return Configured(ok=True, why=f"inventory {self.path}")
        if self.inventory:
            raise ConfigError(
                f"[providers.static] inventory={self.inventory!r}: no such file",
                provider="static",
                hint="write your machines into it, or remove the setting",
            )
        return Configured(ok=False, why=f"no inventory: write your own machines into {DEFAULT}")
