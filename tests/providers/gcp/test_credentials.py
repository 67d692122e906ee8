"""Credentials that are rotated under a running process are read again from their file, and the call is repeated."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google.auth.exceptions
import pytest

from multicompute import Cluster, ClusterState, errors
from multicompute.config import apply_environment
from multicompute.monitor.supervise import supervise
from multicompute.provider import LaunchRequest, Selector
from multicompute.provider_kit.vendor_errors import Place
from multicompute.session import open_session
from multicompute.testing import LocalClouds, local_clouds
from multicompute_gcp._errors import translate
from multicompute_gcp._provider import GcpProvider
from multicompute_gcp.local import GcpLocalCloud

HERE = Selector(region="us-central1", cluster_id="id-1", tokens=("tok",))
SPEC = {"gpus": 1, "type": "g2-standard-4", "regions": ["gcp:us-central1"], "name": "train-1"}

_EXCEPTIONS: Any = google.auth.exceptions
"""The library's errors, whose constructors have no types."""


class Rotation:
    """A key file that is replaced, as a rotation of secrets does."""

    def __init__(self, cloud: GcpLocalCloud, path: Path) -> None:
        self.path = path
        self._cloud = cloud
        self._key = cloud.add_key(path)

    def rotate(self) -> None:
        old, self._key = self._key, self._cloud.add_key(self.path)
        self._cloud.revoke_key(old)

    def revoke(self) -> None:
        self._cloud.revoke_key(self._key)


@pytest.fixture(name="key")
def _key(cloud: GcpLocalCloud, tmp_path: Path) -> Rotation:
    return Rotation(cloud, tmp_path / "key.json")


@pytest.fixture(name="provider")
def _provider(key: Rotation, provider_of: Callable[..., GcpProvider]) -> GcpProvider:
    return provider_of(credentials_file=str(key.path))


def test_every_method_goes_on_with_the_new_key(
    key: Rotation, provider: GcpProvider, request_of: Callable[..., LaunchRequest]
) -> None:
    methods: list[Callable[[], object]] = [
        lambda: provider.account,
        lambda: provider.launch(request_of()),
        lambda: provider.nodes(HERE),
        lambda: provider.resources(HERE),
        lambda: provider.set_expiry(HERE, None),
        lambda: provider.terminate(HERE),
    ]
    for method in methods:
        method()
        key.rotate()
        method()
    key.rotate()
    assert provider.quotas("us-central1").notes == ()
    key.rotate()
    assert [finding for finding in provider.check() if not finding.ok] == []


def test_tokens_that_have_expired_are_renewed(
    cloud: GcpLocalCloud, provider: GcpProvider, request_of: Callable[..., LaunchRequest]
) -> None:
    provider.launch(request_of())
    cloud.expire_tokens()
    assert len(provider.nodes(HERE)) == 2


def test_a_key_that_was_revoked_without_a_new_one_is_an_authentication_error(
    key: Rotation, provider: GcpProvider
) -> None:
    provider.nodes(HERE)
    key.revoke()
    with pytest.raises(errors.AuthError, match="invalid_grant"):
        provider.nodes(HERE)


def test_a_key_of_another_project_does_not_move_the_provider_there(key: Rotation, provider: GcpProvider) -> None:
    provider.nodes(HERE)
    key.rotate()
    key.path.write_text(json.dumps({**json.loads(key.path.read_text()), "project_id": "other-project"}))
    assert provider.nodes(HERE) == ()
    assert provider.account.ids[0] == "multicompute-local"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_EXCEPTIONS.RefreshError("invalid_grant: Invalid JWT Signature."), errors.AuthError),
        (_EXCEPTIONS.RefreshError("reauth is needed"), errors.AuthError),
        (_EXCEPTIONS.DefaultCredentialsError("no such file"), errors.AuthError),
        (_EXCEPTIONS.MalformedError("no private_key"), errors.AuthError),
        (_EXCEPTIONS.RefreshError("503", retryable=True), errors.TransientError),
        (_EXCEPTIONS.TransportError("no route"), errors.TransientError),
    ],
)
def test_what_the_library_raises_for_credentials_has_its_kind(
    error: Exception, kind: type[errors.MulticomputeError]
) -> None:
    assert type(translate(error, "instances.list", Place("gcp"))) is kind


# --- through the engine -----------------------------------------------------------------------------------------------


@pytest.fixture(name="clouds")
def _clouds() -> Iterator[LocalClouds]:
    with local_clouds("gcp") as clouds:
        yield clouds
        assert clouds.alive() == []


@pytest.fixture(name="rotated")
def _rotated(clouds: LocalClouds, tmp_path: Path) -> Iterator[Rotation]:
    rotation = Rotation(clouds.of(GcpLocalCloud), tmp_path / "key.json")
    with apply_environment({"MULTICOMPUTE_GCP__CREDENTIALS_FILE": str(rotation.path)}):
        yield rotation


def test_a_with_block_that_outlives_its_key_tears_down(clouds: LocalClouds, rotated: Rotation) -> None:
    with Cluster.request(**SPEC) as cluster:  # type: ignore[arg-type]
        assert len(clouds.gcp.running_ids()) == 1
        rotated.rotate()
    assert cluster.state is ClusterState.TERMINATED


def test_a_supervisor_survives_a_rotation(clouds: LocalClouds, rotated: Rotation) -> None:
    cluster = Cluster.request(**SPEC)  # type: ignore[arg-type]
    session = open_session()
    for _ in range(2):
        last = supervise(session, rounds=1)
        assert last is not None
        assert last.errors == 0
        rotated.rotate()
    assert Cluster.get("train-1").state is ClusterState.READY
    cluster.terminate()
