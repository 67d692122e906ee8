"""Projects of the local Google Cloud have nothing in common, and its calls need a valid key once there is one."""

from pathlib import Path
from typing import Any

import pytest
import requests
from google.auth.exceptions import RefreshError
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account

from multicompute_gcp.local import GcpLocalCloud
from tests.providers.gcp.local.bare_google import ZONE, Api

SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]


def _project(cloud: GcpLocalCloud, name: str, path: str = "", session: Any = requests) -> requests.Response:
    answer: requests.Response = session.get(f"{cloud.endpoint_url}/compute/v1/projects/{name}{path}", timeout=10)
    return answer


def test_another_project_is_empty_and_names_itself(cloud: GcpLocalCloud, api: Api, launch: Any) -> None:
    launch(1)
    environment = cloud.add_account("other-project")
    assert environment["GOOGLE_CLOUD_PROJECT"] == "other-project"
    theirs = _project(cloud, "other-project").json()
    mine = _project(cloud, cloud.project).json()
    assert (theirs["name"], mine["name"]) == ("other-project", cloud.project)
    assert theirs["defaultServiceAccount"] != mine["defaultServiceAccount"]
    assert "items" not in _project(cloud, "other-project", f"/zones/{ZONE}/instances").json()
    assert len(api.instances()) == 1


def test_a_project_has_a_number_as_a_second_name_and_an_unknown_one_is_not_found(cloud: GcpLocalCloud) -> None:
    number = _project(cloud, cloud.project).json()["defaultServiceAccount"].partition("-")[0]
    assert _project(cloud, number).json()["name"] == cloud.project
    assert _project(cloud, "unknown").status_code == 404


def test_once_there_is_a_key_a_call_needs_its_token(cloud: GcpLocalCloud, tmp_path: Path) -> None:
    key_id = cloud.add_key(tmp_path / "key.json")
    assert _project(cloud, cloud.project).status_code == 401
    credentials = service_account.Credentials.from_service_account_file(str(tmp_path / "key.json"), scopes=SCOPES)  # type: ignore[no-untyped-call]
    session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    assert _project(cloud, cloud.project, session=session).ok
    # The library gets a new token for one that has expired, but not with a key that was revoked.
    cloud.expire_tokens()
    assert _project(cloud, cloud.project, session=session).ok
    cloud.revoke_key(key_id)
    with pytest.raises(RefreshError, match="invalid_grant"):
        _project(cloud, cloud.project, session=session)
    with pytest.raises(ValueError, match="no such key"):
        cloud.revoke_key("none")
