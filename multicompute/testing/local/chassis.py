"""The chassis of a local cloud: the HTTP server, the services on it, and a scratch folder."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from multicompute.testing.local.server import Application, Request, Response, Server


class Chassis:
    """A server on 127.0.0.1 that runs the HTTP services of one local cloud.

    Each service answers the paths below a prefix. So a cloud adds a service (a price list, a token endpoint) by naming one more
    prefix, and every service has the same URL.
    """

    def __init__(self, title: str) -> None:
        """Build a chassis that is not started; `title` is the cloud's name in messages."""
        self._title = title
        self._server: Server | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def is_running(self) -> bool:
        """Return whether the server runs."""
        return self._server is not None

    @property
    def endpoint_url(self) -> str:
        """The URL of every service.

        Raises:
            RuntimeError: The server is not started.
        """
        if self._server is None:
            raise RuntimeError(f"the local {self._title} is not started")
        return self._server.url

    @property
    def folder(self) -> Path:
        """An empty folder that exists while the server runs.

        Raises:
            RuntimeError: The server is not started.
        """
        if self._folder is None:
            raise RuntimeError(f"the local {self._title} is not started")
        return Path(self._folder.name)

    def environment(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """Return the variables and those that keep a proxy of the user's from the server."""
        return MappingProxyType({**variables, "NO_PROXY": "127.0.0.1,localhost", "no_proxy": "127.0.0.1,localhost"})

    def start(self, services: Mapping[str, Application]) -> None:
        """Start the server.

        Args:
            services: Path prefix -> the service that answers below it; the longest prefix of a path wins.
        """
        server = Server(_Dispatcher(services))
        server.start()
        self._folder = tempfile.TemporaryDirectory(prefix="multicompute-cloud-")
        self._server = server

    def stop(self) -> None:
        """Stop the server and delete the folder."""
        if self._server is not None:
            self._server.stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._server = self._folder = None


class _Dispatcher:
    """The application of the server: it passes a request on to the service of its path."""

    def __init__(self, services: Mapping[str, Application]) -> None:
        self._services = sorted(services.items(), key=lambda service: len(service[0]), reverse=True)

    def __call__(self, request: Request) -> Response | None:
        for prefix, service in self._services:
            if request.path.startswith(prefix):
                return service(request)
        return Response(404)
