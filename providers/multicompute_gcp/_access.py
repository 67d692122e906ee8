"""Reads the settings, and tells from variables and files whether and where Google Cloud can be reached; imports no SDK."""

import configparser
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from multicompute.errors import ConfigError
from multicompute.provider import Configured, Settings
from multicompute.units import parse_duration

SETTING_NAMES = (
    "project",
    "credentials_file",
    "endpoint_url",
    "tpu_endpoint_url",
    "network",
    "subnetwork",
    "gpu_subnetworks",
    "service_account",
    "ssh_from",
    "extension_room",
    "queue_wait",
    "tpu_create",
)

COMPUTE: Final = "https://compute.googleapis.com"
TPU: Final = "https://tpu.googleapis.com"
MONITORING: Final = "https://monitoring.googleapis.com"
# The project of a local cloud when none is named: its path has to have one.
_LOCAL_PROJECT: Final = "local"
_ADC: Final = "application_default_credentials.json"
# The kernel shows the vendor here: the cheap way to know that a metadata server may exist.
_PRODUCT_FILE = Path("/sys/class/dmi/id/product_name")
# How far a lease may be moved beyond the first one, see `_machine.scheduling`.
_EXTENSION_ROOM: Final = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class GcpSettings:
    """The table `[providers.gcp]`, checked, and the environment to look for credentials in.

    Attributes:
        project: the project to launch in; else GOOGLE_CLOUD_PROJECT, the credentials' own, or gcloud's.
        credentials_file: a key or configuration file to use instead of the application default credentials.
        endpoint_url, tpu_endpoint_url: instead of Google's own endpoints of Compute Engine and of Cloud TPU.
        network, subnetwork: where to launch, instead of the network "default".
        gpu_subnetworks: subnetworks for the further network interfaces of GPUDirect and RoCE machine types, in order.
        service_account: the service account of the nodes; without one, virtual machines get none.
        ssh_from: CIDR blocks from which port 22 is reachable; empty for the caller's own address.
        extension_room: how far beyond the first end of life a lease can still be moved; nothing for not at all.
        queue_wait: how long a TPU request may wait in Google's queue before it counts as a lack of capacity.
        tpu_create: "queued" for queued resources, "direct" for nodes without a queue.
    """

    project: str | None = None
    credentials_file: str | None = None
    endpoint_url: str | None = None
    tpu_endpoint_url: str | None = None
    network: str | None = None
    subnetwork: str | None = None
    gpu_subnetworks: tuple[str, ...] = ()
    service_account: str | None = None
    ssh_from: tuple[str, ...] = ()
    extension_room: timedelta = _EXTENSION_ROOM
    queue_wait: timedelta | None = None
    tpu_create: str = "queued"
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "GcpSettings":
        """Check the configured values.

        Raises:
            ConfigError: a value is not of its kind, or an endpoint is plain http on another machine.
        """
        values = settings.values
        endpoint, tpu = _text(values, "endpoint_url"), _text(values, "tpu_endpoint_url")
        check_endpoint(endpoint, "endpoint_url")
        check_endpoint(tpu, "tpu_endpoint_url")
        return cls(
            project=_text(values, "project"),
            credentials_file=_text(values, "credentials_file"),
            endpoint_url=endpoint.rstrip("/") if endpoint else None,
            # A local Compute Engine must never have the real TPUs beside it.
            tpu_endpoint_url=(tpu or endpoint or "").rstrip("/") or None,
            network=_text(values, "network"),
            subnetwork=_text(values, "subnetwork"),
            gpu_subnetworks=_texts(values, "gpu_subnetworks"),
            service_account=_text(values, "service_account"),
            ssh_from=tuple(_network(item) for item in _texts(values, "ssh_from")),
            extension_room=_room(values),
            queue_wait=_duration(values, "queue_wait"),
            tpu_create=_tpu_create(values),
            environment=settings.environment,
        )

    @property
    def is_local(self) -> bool:
        """Whether Compute Engine is reached on a loopback address."""
        return self.endpoint_url is not None and is_loopback(self.endpoint_url)

    @property
    def named_project(self) -> str | None:
        """The project, as far as variables and files tell."""
        env = self.environment
        named = self.project or env.get("GOOGLE_CLOUD_PROJECT") or env.get("GCLOUD_PROJECT")
        if named or self.is_local:
            return named or _LOCAL_PROJECT
        return _project_of_credentials(self.credentials_path()) or _project_of_gcloud(self._gcloud())

    def credentials_path(self) -> Path | None:
        """The file with the credentials, or None where there is none."""
        named = self.credentials_file or self.environment.get("GOOGLE_APPLICATION_CREDENTIALS")
        if named:
            path = Path(named).expanduser()
        else:
            folder = self._gcloud()
            if folder is None:
                return None
            path = folder / _ADC
        return path if path.is_file() else None

    def _gcloud(self) -> Path | None:
        named, home = self.environment.get("CLOUDSDK_CONFIG"), self.environment.get("HOME")
        return Path(named).expanduser() if named else Path(home, ".config", "gcloud") if home else None


def look_for_access(settings: Settings) -> Configured:
    """Whether there is anything to reach Google Cloud with, and from where it comes."""
    read = GcpSettings.of(settings)
    if read.is_local:
        return Configured(ok=True, why=f"a local endpoint, {read.endpoint_url}")
    named = read.credentials_file or read.environment.get("GOOGLE_APPLICATION_CREDENTIALS")
    path = read.credentials_path()
    if path is None and named:
        return Configured(ok=False, why=f"the credentials file {named} is not there")
    if path is None:
        if _is_on_gce():
            return Configured(
                ok=True, why="this machine runs on Google Cloud; its service account is known when it is asked"
            )
        return Configured(ok=False, why="no application default credentials in the environment or in ~/.config/gcloud")
    if read.named_project is None:
        return Configured(ok=False, why=f"credentials in {path}, but no project: set GOOGLE_CLOUD_PROJECT")
    return Configured(ok=True, why=f"{path}, project {read.named_project}")


def _is_on_gce() -> bool:
    try:
        return "Google" in _PRODUCT_FILE.read_text()
    except OSError:
        return False


def _project_of_credentials(path: Path | None) -> str | None:
    try:
        read = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        # The SDK tells what is wrong with it when it is used.
        return None
    if not isinstance(read, dict):
        return None
    return read.get("project_id") or read.get("quota_project_id") or None


def _project_of_gcloud(folder: Path | None) -> str | None:
    """The project of gcloud's active configuration."""
    if folder is None:
        return None
    parser = configparser.RawConfigParser(strict=False)
    try:
        active = (folder / "active_config").read_text(encoding="utf-8").strip()
        parser.read(folder / "configurations" / f"config_{active}", encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None
    return parser.get("core", "project", fallback=None)


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine and nowhere else."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_endpoint(url: str | None, name: str) -> None:
    """Refuse an endpoint over which requests and answers would travel in the open.

    Raises:
        ConfigError: not a URL, or plain http to another machine.
    """
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"gcp: {name}={url!r} is not a URL", provider="gcp", hint='write "https://host:port"')
    if parts.scheme == "http" and not is_loopback(url):
        text = f"gcp: {name}={url!r}: plain http is allowed on loopback addresses only"
        raise ConfigError(text, provider="gcp", hint="use https")


def _text(values: Mapping[str, object], name: str) -> str | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise ConfigError(f"[providers.gcp] {name}={value!r}: must be a text", provider="gcp")
    return value


def _texts(values: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = values.get(name)
    if value is None:
        return ()
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise ConfigError(f"[providers.gcp] {name}={value!r}: must be a list of texts", provider="gcp")
    return tuple(item.strip() for item in items if item.strip())


def _duration(values: Mapping[str, object], name: str) -> timedelta | None:
    value = values.get(name)
    if value is None or value == "":
        return None
    if not isinstance(value, (str, timedelta)):
        raise ConfigError(f'[providers.gcp] {name}={value!r}: must be a duration, "90m"', provider="gcp")
    return parse_duration(value, what=f"[providers.gcp] {name}")


def _room(values: Mapping[str, object]) -> timedelta:
    if str(values.get("extension_room", "")).strip() in ("0", "0s"):
        return timedelta(0)
    return _duration(values, "extension_room") or _EXTENSION_ROOM


def _tpu_create(values: Mapping[str, object]) -> str:
    value = _text(values, "tpu_create") or "queued"
    if value not in ("queued", "direct"):
        raise ConfigError(f'[providers.gcp] tpu_create={value!r}: must be "queued" or "direct"', provider="gcp")
    return value


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise ConfigError(f"[providers.gcp] ssh_from={text!r}: {error}", provider="gcp") from error
