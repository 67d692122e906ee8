"""The metadata services of the clouds on 127.0.0.1, as strict as the real ones, and the APIs with which nodes delete themselves."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

TAG = "multicompute-expires-at"
TOKEN = "secret-of-the-node"
TPU = "/v2/projects/p/locations/us-central1-a/queuedResources/q"
VM = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/v"
IDENTITY = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i"

Answer = tuple[int, str]


class MetadataService:
    """The base of all metadata services.

    Attributes:
        tag: returns the expiry tag that the cloud has now, None for none.
        now: epoch seconds of the clock of the service, which is right.
        is_up: whether it answers; else connections break.
        sends_date: whether answers have a Date header.
        may_delete: whether the identity of the node has the right to delete it.
        deletions: how many times the node has requested its deletion here, and not from a local cloud.
        vm: the resource id of the node.
        refused: requests that the real service refuses, too.
    """

    def __init__(self, url: str, now: int) -> None:
        self.url = url
        self.now = now
        self.tag: Callable[[], str | None] = lambda: None
        self.is_up = True
        self.sends_date = True
        self.may_delete = True
        self.deletions = 0
        self.vm = VM
        self.refused: list[str] = []

    def set_tag(self, tag: str | None) -> None:
        """Set the expiry tag."""
        self.tag = lambda: tag

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        """Answer one request."""
        raise NotImplementedError

    def delete(self, headers: dict[str, str]) -> Answer:
        """Accept the deletion of the node, if the caller may request it."""
        self.deletions += 1
        return (202, "{}") if self.may_delete and headers.get("authorization") == f"Bearer {TOKEN}" else (403, "{}")

    def found(self, text: str | None) -> Answer:
        """Return a text, or 404 for None."""
        return (404, "not found") if text is None else (200, text)


class Ec2(MetadataService):
    """The service of EC2, version 2 required: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html."""

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if (method, path) == ("PUT", "/latest/api/token"):
            seconds = headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            return (200, TOKEN) if seconds.isdecimal() and 1 <= int(seconds) <= 21600 else (400, "Bad Request")
        if headers.get("x-aws-ec2-metadata-token") != TOKEN:
            return 401, "Unauthorized"
        return self.found(self.tag() if path == f"/latest/meta-data/tags/instance/{TAG}" else None)


class Ec2WithoutTags(Ec2):
    """The service of EC2 for an instance without tags in its metadata: a security group is named after the expiry.

    Attributes:
        groups: returns the names of the security groups.
    """

    def __init__(self, url: str, now: int) -> None:
        super().__init__(url, now)
        self.groups: Callable[[], list[str]] = self._own_groups

    def _own_groups(self) -> list[str]:
        expiry = self.tag()
        return ["default"] if expiry is None else ["default", f"multicompute-c-1-until-{expiry}"]

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        status, text = super().answer(method, path, query, headers)
        if path == "/latest/meta-data/security-groups" and status == 404:
            return 200, "\n".join(self.groups())
        return (404, "not found") if path.startswith("/latest/meta-data/tags/") and status == 200 else (status, text)


class Gce(MetadataService):
    """The service of Google Cloud (https://cloud.google.com/compute/docs/metadata/querying-metadata), and queuedResources.delete."""

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if (method, path) == ("DELETE", TPU):
            return self.delete(headers)
        if headers.get("metadata-flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header."
        instance = path.removeprefix("/computeMetadata/v1/instance/")
        if instance == "service-accounts/default/token":
            return 200, json.dumps({"access_token": TOKEN, "expires_in": 3599, "token_type": "Bearer"})
        return self.found(self.tag() if instance == f"attributes/{TAG}" else None)


class Imds(MetadataService):
    """The service of Azure (https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service), and the deletion of a VM."""

    def answer(self, method: str, path: str, query: dict[str, str], headers: dict[str, str]) -> Answer:
        if method == "DELETE":
            return self.delete(headers) if path == self.vm and query.get("api-version") else (404, "{}")
        if headers.get("metadata") != "true" or "api-version" not in query:
            return 400, json.dumps(
                {"error": "Bad request. api-version is invalid or was not specified in the request."}
            )
        if path == "/metadata/identity/oauth2/token":
            is_ours = query.get("msi_res_id") == IDENTITY and query.get("resource", "").endswith("/")
            return (200, json.dumps({"access_token": TOKEN, "expires_in": "86399"})) if is_ours else (400, "{}")
        if path == "/metadata/instance/compute/resourceId":
            return self.found(self.vm if query.get("format") == "text" else None)
        if path == "/metadata/instance/compute/userData":
            return self.found(self._user_data() if query.get("format") == "text" else None)
        return self.found(self._tags() if path == "/metadata/instance/compute/tagsList" else None)

    def _user_data(self) -> str:
        return ""

    def _tags(self) -> str:
        # A value that looks like our tag, with an expiry long past: the node must not read it.
        tags = [{"name": "note", "value": f'"name":"{TAG}","value":"1700000000"'}]
        if (tag := self.tag()) is not None:
            tags.append({"name": TAG, "value": tag})
        return json.dumps(tags, separators=(",", ":"))


class ImdsOfUniform(Imds):
    """The service of Azure for an instance of a Uniform scale set.

    Its user data can be changed while it runs (https://learn.microsoft.com/azure/virtual-machines/user-data). Its tags are those of the
    model that it was created from, and stay as they were (Azure/azure-sdk-for-go#18278).
    """

    def _user_data(self) -> str:
        lines = [f"note=x {TAG}=1700000000"]
        if (tag := self.tag()) is not None:
            lines.append(f"{TAG}={tag}")
        return base64.b64encode("\n".join(lines).encode()).decode()

    def _tags(self) -> str:
        return json.dumps([{"name": TAG, "value": "1700000000"}])


@contextmanager
def serving(kind: type[MetadataService], now: int) -> Iterator[MetadataService]:
    """Run a metadata service while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            if not service.is_up:
                self.close_connection = True
                return
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            status, text = service.answer(
                self.command, parts.path, query, {name.lower(): value for name, value in self.headers.items()}
            )
            if status in (400, 401):
                service.refused.append(f"{self.command} {self.path}")
            self.send_response_only(status)
            if service.sends_date:
                self.send_header("Date", formatdate(service.now, usegmt=True))
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_PUT = do_DELETE = handle_any

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service = kind(f"http://127.0.0.1:{server.server_address[1]}", now)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
