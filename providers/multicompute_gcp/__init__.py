"""Google Cloud: its offer tables. Launching there is not part of this version."""

from pathlib import Path
from typing import TYPE_CHECKING

from multicompute.errors import ProviderError
from multicompute.provider import Configured, Settings, TagLimits

if TYPE_CHECKING:
    from multicompute.provider import LocalCloud, Provider


class GcpPlugin:
    """The plug-in object of Google Cloud."""

    name = "gcp"
    extra = "gcp"
    modules: tuple[str, ...] = ()
    can_launch = False
    tables = Path(__file__).parent / "data"
    # https://cloud.google.com/compute/docs/labeling-resources: 64 labels, five of them ours, keys and values of up to 63 characters.
    tag_limits = TagLimits(count=59, key_length=63, value_length=63, reserved_prefixes=("goog",))
    setting_names = (
        "project",
        "credentials_file",
        "endpoint_url",
        "tpu_endpoint_url",
        "network",
        "subnetwork",
        "service_account",
    )

    def configured(self, settings: Settings) -> Configured:
        return Configured(ok=False, why="this version knows Google Cloud's prices, but can't launch there yet")

    def open(self, settings: Settings) -> "Provider":
        raise ProviderError(self.configured(settings).why, provider=self.name)

    def local(self) -> "LocalCloud | None":
        return None


plugin = GcpPlugin()
