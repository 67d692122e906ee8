"""The settings of Google Cloud, and where credentials and the project are found; no SDK is imported and no network call made."""

from datetime import timedelta
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field

from multicompute.provider import Configured, Settings
from multicompute.provider_kit.endpoints import is_loopback
from multicompute.provider_kit.settings import (
    SETTINGS,
    CidrBlocks,
    Duration,
    DurationOrZero,
    Endpoint,
    Environment,
    Secret,
    SshSettings,
    Texts,
    existing_file,
    firmware_has,
    read_ini,
    read_json,
    read_settings,
)

# A local cloud has one project; its name is part of every URL.
_LOCAL_PROJECT: Final = "local"
_ADC: Final = "application_default_credentials.json"
# On Compute Engine the kernel shows the vendor here, so a metadata server with a service account may exist.
_PRODUCT_FILE = Path("/sys/class/dmi/id/product_name")


class GcpSettings(SshSettings, BaseModel):
    """The table `[providers.gcp]`, checked, and the environment to look for credentials in."""

    model_config = SETTINGS

    project: str | None = Field(
        None,
        description="The project to launch in. Default: GOOGLE_CLOUD_PROJECT, else that of the credentials or of gcloud.",
    )
    credentials_file: str | None = Field(
        None, description="A key or configuration file. Default: the application default credentials."
    )
    endpoint_url: Endpoint | None = Field(None, description="The endpoint of Compute Engine. Default: Google's own.")
    tpu_endpoint_url: Endpoint | None = Field(
        None, description="The endpoint of Cloud TPU. Default: `endpoint_url`, else Google's own."
    )
    billing_endpoint_url: Endpoint | None = Field(
        None, description="The endpoint of the Cloud Billing API. Default: Google's own."
    )
    api_key: Secret | None = Field(
        None,
        description="An API key for the price list. Default: the credentials.",
    )
    network: str | None = Field(None, description='The name or path of the network to launch in. Default: "default".')
    subnetwork: str | None = Field(
        None, description="The name or path of the subnetwork to launch in. Default: that of the network in the region."
    )
    gpu_subnetworks: Texts | dict[str, Texts] = Field(
        (),
        description=(
            "The subnetworks for the additional interfaces of GPUDirect and RoCE machine types, in order: one list, or a table with a list "
            'for each machine series ("a3-megagpu"), which may be of one zone only ("a4/us-central1-b"). Default: none.'
        ),
    )
    service_account: str | None = Field(
        None,
        description="The service account of the nodes. Default: none for instances, Google's default for TPU slices.",
    )
    ssh_from: CidrBlocks = Field(
        (), description="The CIDR blocks from which port 22 can be reached. Default: the caller's own address."
    )
    extension_room: DurationOrZero = Field(
        timedelta(days=7),
        description='How far beyond its first end a lease can be extended; "0s" for not at all. Default: "7d".',
    )
    queue_wait: Duration | None = Field(
        None,
        description=(
            "How long a request for TPUs or for one flex-start node may wait in Google's queue until it counts as a lack of capacity. "
            "Default: the attempt timeout."
        ),
    )
    tpu_create: Literal["queued", "direct"] = Field(
        "queued",
        description='How TPU slices are created: as "queued" resources, or as "direct" nodes. Default: "queued".',
    )
    environment: Environment = {}

    @classmethod
    def of(cls, settings: Settings) -> "GcpSettings":
        """Check what a plug-in is opened with.

        Raises:
            ConfigError: A key is unknown, a value is not of its kind, or an endpoint is plain http to another machine.
        """
        return read_settings(cls, settings, provider="gcp")

    @property
    def tpu_endpoint(self) -> str | None:
        """Return the endpoint of Cloud TPU, None for Google's own: a local Compute Engine must never be combined with real TPUs."""
        return self.tpu_endpoint_url or self.endpoint_url

    @property
    def billing_endpoint(self) -> str | None:
        """Return the endpoint of Cloud Billing, None for Google's own; a local cloud serves it next to Compute Engine."""
        return self.billing_endpoint_url or (self.endpoint_url if self.is_local else None)

    @property
    def is_mixed(self) -> bool:
        """Return whether only one of Compute Engine and Cloud Billing is a server on this machine: they must not be combined."""
        return is_loopback(self.billing_endpoint) != self.is_local

    @property
    def is_local(self) -> bool:
        """Return whether Compute Engine is reached on a loopback address."""
        return is_loopback(self.endpoint_url)

    @property
    def has_local_key(self) -> bool:
        """Return whether the settings name a key of the local cloud, whose tokens come from the local cloud as well."""
        path = existing_file(self.credentials_file) if self.credentials_file else None
        return self.is_local and is_loopback(read_json(path).get("token_uri"))

    @property
    def named_project(self) -> str | None:
        """Return the project that variables and files name, None if they name none."""
        env = self.environment
        named = self.project or env.get("GOOGLE_CLOUD_PROJECT") or env.get("GCLOUD_PROJECT")
        if named or self.is_local:
            return named or _LOCAL_PROJECT
        return _project_of_credentials(self.credentials_path()) or _project_of_gcloud(self._gcloud_folder())

    @property
    def named_credentials(self) -> str | None:
        """Return the credentials file that the setting or the environment names."""
        return self.credentials_file or self.environment.get("GOOGLE_APPLICATION_CREDENTIALS")

    def credentials_path(self) -> Path | None:
        """Return the file with the credentials, or None if it does not exist."""
        folder = self._gcloud_folder()
        path = self.named_credentials or (folder and folder / _ADC)
        return existing_file(path) if path else None

    def configured(self) -> Configured:
        """Return whether Google Cloud can be reached, and with which credentials and project."""
        if self.is_local:
            return Configured(ok=True, why=f"a local endpoint, {self.endpoint_url}", is_local=True)
        path = self.credentials_path()
        if path is None and self.named_credentials:
            return Configured(ok=False, why=f"the credentials file {self.named_credentials} does not exist")
        if path is None and firmware_has(_PRODUCT_FILE, "Google"):
            why = "this machine runs on Google Cloud; whether it has a service account is known at the first call"
            return Configured(ok=True, why=why)
        if path is None:
            why = "no application default credentials in the environment or in ~/.config/gcloud"
            return Configured(ok=False, why=why)
        if self.named_project is None:
            return Configured(ok=False, why=f"credentials in {path}, but no project: set GOOGLE_CLOUD_PROJECT")
        return Configured(ok=True, why=f"{path}, project {self.named_project}")

    def _gcloud_folder(self) -> Path | None:
        named, home = self.environment.get("CLOUDSDK_CONFIG"), self.environment.get("HOME")
        return Path(named) if named else Path(home, ".config", "gcloud") if home else None


def _project_of_credentials(path: Path | None) -> str | None:
    """Return the project in a credentials file."""
    found = read_json(path)
    return found.get("project_id") or found.get("quota_project_id") or None


def _project_of_gcloud(folder: Path | None) -> str | None:
    """Return the project of gcloud's active configuration."""
    file = existing_file(folder / "active_config") if folder else None
    if file is None:
        return None
    try:
        active = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
    configuration = existing_file(file.parent / "configurations" / f"config_{active}")
    return read_ini(configuration).get("core", "project", fallback=None)
