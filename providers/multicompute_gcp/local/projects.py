"""The projects of the local Google Cloud: which project a call is about, and whether its credentials are valid."""

import re
import zlib
from collections.abc import Mapping
from dataclasses import replace

from multicompute.testing.local.server import Application, Request, Response
from multicompute_gcp.local.credentials import TOKEN_PATH, Keys
from multicompute_gcp.local.records import PROJECT, PROJECT_NUMBER
from multicompute_gcp.local.responses import GcpError, compute_error, rpc_error

_PATH = re.compile(r"/(compute/v1|v2|v3)/projects/([^/]+)")


def number_of(project: str) -> str:
    """Return the number of a project, which the cloud gives it."""
    return PROJECT_NUMBER if project == PROJECT else f"2{zlib.crc32(project.encode()):011d}"


class Projects:
    """The application of all projects, each of which has an application of its own that calls itself `PROJECT`.

    A project may be named by its id or its number. An unknown project is answered by the first one, which does not find it.
    """

    def __init__(self, first: Application, keys: Keys) -> None:
        """Serve the first project; `keys` are the keys of all projects."""
        self._applications: dict[str, Application] = {PROJECT: first}
        self._keys = keys

    def add(self, project: str, application: Application) -> None:
        """Serve another project."""
        self._applications[project] = application

    def __call__(self, request: Request) -> Response | None:
        """Answer a request."""
        if request.path == TOKEN_PATH:
            return self._keys.issue_token(request)
        found = _PATH.match(request.path)
        try:
            self._keys.check(request.headers)
        except GcpError as error:
            is_compute = found is None or found[1].startswith("compute")
            return compute_error(error) if is_compute else rpc_error(error)
        ids = {number_of(name): name for name in self._applications}
        named = found[2] if found else PROJECT
        project = ids.get(named, named)
        application = self._applications.get(project)
        if application is None:
            return self._applications[PROJECT](request)
        names = {named: PROJECT, project: PROJECT}
        answer = application(
            replace(request, path=_renamed(request.path, names), body=_renamed_bytes(request.body, names))
        )
        if answer is None or project == PROJECT:
            return answer
        return replace(answer, body=_renamed_bytes(answer.body, {PROJECT: project, PROJECT_NUMBER: number_of(project)}))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(f"projects/{old}", f"projects/{new}")
    return text


def _renamed_bytes(body: bytes, names: Mapping[str, str]) -> bytes:
    for old, new in names.items():
        body = body.replace(old.encode(), new.encode())
    return body
