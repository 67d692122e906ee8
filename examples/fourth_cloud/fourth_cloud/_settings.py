"""The settings of Fourth, and whether it can be reached."""

from pydantic import BaseModel, Field

from multicompute.provider import Configured, Settings
from multicompute.provider_kit.endpoints import check_endpoint, is_loopback
from multicompute.provider_kit.settings import SETTINGS, Endpoint, Environment, read_settings

ENDPOINT = "https://api.fourth.example"


class FourthSettings(BaseModel):
    """The table `[providers.fourth]`, checked, and the environment to look for the key in."""

    model_config = SETTINGS

    endpoint_url: Endpoint | None = Field(
        None, description=f"The API's endpoint. Default: FOURTH_ENDPOINT_URL, else {ENDPOINT}."
    )
    environment: Environment = {}

    @classmethod
    def of(cls, settings: Settings) -> "FourthSettings":
        """Check what the plug-in is opened with."""
        read = read_settings(cls, settings, provider="fourth")
        check_endpoint(read.endpoint, name="FOURTH_ENDPOINT_URL", provider="fourth")
        return read

    @property
    def endpoint(self) -> str:
        """The endpoint to use."""
        return self.endpoint_url or self.environment.get("FOURTH_ENDPOINT_URL") or ENDPOINT

    @property
    def key(self) -> str:
        """The API key, "" if none is set."""
        return self.environment.get("FOURTH_API_KEY", "")

    def configured(self) -> Configured:
        """Return whether Fourth can be reached: with a key, or as a local cloud, which needs none."""
        if self.key or is_loopback(self.endpoint):
            return Configured(ok=True)
        return Configured(ok=False, why="no key: FOURTH_API_KEY is not set")
