"""moto as one isolated account: its WSGI application, and its networks, images and keys."""

import hashlib
import io
import re
import secrets
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from multicompute.provider import Resource
from multicompute.testing.local.server import HOST, Request, Response
from multicompute_aws.local.images import IMAGE_PARAMETERS
from multicompute_aws.local.moto_images import defer_images
from multicompute_aws.local.wire import AwsError

_AMAZON = "137112412989"
# A thread that saved what another one has replaced would leave it replaced.
_starting = threading.Lock()
_CODE, _MESSAGE = (re.compile(rb"<%s>(.*?)</%s>" % (tag, tag), re.DOTALL) for tag in (b"Code", b"Message"))


class Moto:
    """moto in this process, with an account id of its own: several local clouds do not see each other."""

    def __init__(self, account: str = "", application: Any = None) -> None:
        """Take an account id and moto's application, or choose and create them; `start` imports moto."""
        self.account = account or str(10**11 + secrets.randbelow(9 * 10**11))
        self._application: Any = application
        self._connected: set[str] = set()
        self.lacks_default_vpcs = False

    def start(self) -> None:
        """Import moto and create its application, which takes most of the time of `AwsLocalCloud.start`."""
        with _descriptions_shared():
            if self._application is None:
                self._application = self.application()
                defer_images(self.account)
            self.ec2("us-east-1")

    @staticmethod
    def application() -> Any:
        """Create moto's application."""
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        return DomainDispatcherApplication(create_backend_app)

    def stop(self) -> None:
        """Delete everything in the account."""
        from moto.core import base_backend
        from moto.core.model_instances import reset_model_data

        services: list[Any] = list(vars(base_backend.BackendDict)["_instances"])
        for service in services:
            if self.account not in service:
                continue
            # moto caches regions and subnets, which refer to their backends: so the backends themselves are emptied.
            for backend in service[self.account].values():
                vars(backend).clear()
            service[self.account].clear()
            del service[self.account]
        # moto also keeps every model it has created, for its dashboard: 15 MB for the images of a region.
        reset_model_data()
        self._connected.clear()
        self._application = None

    def call(self, request: Request) -> Response:
        """Return moto's response; the status 501 means that moto lacks the action."""
        status: list[str] = []
        headers: list[tuple[str, str]] = []

        def start_response(line: str, fields: list[tuple[str, str]], _: object = None) -> None:
            status.append(line)
            headers.extend(fields)

        try:
            chunks = self._application(self._environ(request), start_response)
        except NotImplementedError:
            # Moto has no such action.
            return Response(501, b"", "text/plain")
        try:
            body = b"".join(chunks)
        finally:
            if hasattr(chunks, "close"):
                chunks.close()
        kept = {name: value for name, value in headers if name.lower().startswith("x-amz")}
        content_type = next((value for name, value in headers if name.lower() == "content-type"), "text/xml")
        return Response(int(status[0].split(" ", 1)[0]), body, content_type, kept)

    def call_or_refuse(self, request: Request) -> bytes:
        """Return the body of moto's response.

        Raises:
            AwsError: Moto refuses the request.
        """
        response = self.call(request)
        if response.status != 200:
            code, message = _CODE.search(response.body), _MESSAGE.search(response.body)
            raise AwsError(
                code[1].decode() if code else "InternalError", message[1].decode() if message else "", response.status
            )
        return response.body

    def _environ(self, request: Request) -> dict[str, Any]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": request.path,
            "RAW_URI": request.path + (f"?{request.query}" if request.query else ""),
            "QUERY_STRING": request.query,
            "SERVER_NAME": HOST,
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": HOST,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            environ["HTTP_" + name.upper().replace("-", "_")] = value
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = str(len(request.body))
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self.account
        return environ

    def ec2(self, region: str) -> Any:
        """Return moto's EC2 backend of a region, which moto creates at first use."""
        from moto.ec2.models import ec2_backends

        backend = ec2_backends[self.account][region]
        if region not in self._connected:
            self._connected.add(region)
            _connect(backend)
        if self.lacks_default_vpcs and backend.default_vpc is not None:
            _remove_default_vpc(backend)
        return backend

    def has_default_vpc(self, region: str) -> bool:
        """Return whether a region has a default VPC."""
        return self.ec2(region).default_vpc is not None

    def security_group_ids(self, region: str) -> set[str]:
        """Return the ids of all security groups of a region."""
        return {name for groups in self.ec2(region).groups.values() for name in groups}

    @contextmanager
    def without_security_groups(self, region: str, ids: Collection[str]) -> Iterator[None]:
        """Hide security groups of a region from all calls."""
        by_vpc = self.ec2(region).groups
        hidden = [(vpc, name, group) for vpc, groups in by_vpc.items() for name, group in groups.items() if name in ids]
        for vpc, name, _ in hidden:
            del by_vpc[vpc][name]
        try:
            yield
        finally:
            for vpc, name, group in hidden:
                by_vpc[vpc][name] = group

    def cloudwatch(self, region: str) -> Any:
        """Return moto's CloudWatch backend of a region, which moto creates at first use."""
        from moto.cloudwatch.models import cloudwatch_backends

        return cloudwatch_backends[self.account][region]

    def used_regions(self) -> tuple[str, ...]:
        """Return the regions that were used."""
        from moto.ec2.models import ec2_backends

        return tuple(sorted(ec2_backends[self.account]))

    def zones(self, region: str) -> tuple[str, ...]:
        """Return the zones of a region."""
        return tuple(zone.name for zone in self.ec2(region).describe_availability_zones())

    def has_region(self, region: str) -> bool:
        """Return whether a region exists."""
        from moto.ec2.models.availability_zones_and_regions import RegionsAndZonesBackend

        return region in RegionsAndZonesBackend.zones

    def regions(self) -> Mapping[str, str]:
        """Return every region of the partition -> its opt-in status."""
        return {region.name: region.opt_in_status for region in self.ec2("us-east-1").describe_regions()}

    def image(self, region: str, image_id: str) -> Any | None:
        """Return moto's record of an image, or None."""
        return self.ec2(region).amis.get(image_id)

    def image_parameter(self, region: str, name: str) -> str | None:
        """Return the image of a public SSM parameter, and add it to moto's images; None for other parameters."""
        arch = IMAGE_PARAMETERS.get(name)
        if arch is None:
            return None
        image_id = "ami-" + hashlib.sha256(f"{region} {name}".encode()).hexdigest()[:17]
        backend = self.ec2(region)
        # Only these images have such ids, and looking for others would load moto's own.
        if image_id not in backend.amis.copy():
            backend.amis[image_id] = self._create_image(backend, region, image_id, name, arch)
        return image_id

    def _create_image(self, backend: Any, region: str, image_id: str, name: str, arch: str) -> Any:
        from moto.ec2.models.amis import Ami

        is_amazon_linux = "amazon-linux" in name
        return Ami(
            backend,
            image_id,
            name=name.removeprefix("/aws/service/"),
            description="stands for the image of this public parameter",
            owner_id=_AMAZON,
            owner_alias="amazon",
            public=True,
            virtualization_type="hvm",
            architecture=arch,
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name="/dev/xvda" if is_amazon_linux else "/dev/sda1",
            region_name=self.zones(region)[0],
        )

    def subnet(self, region: str, subnet_id: str) -> Any:
        """Return moto's record of a subnet, or None."""
        for by_id in self.ec2(region).subnets.values():
            if subnet_id in by_id:
                return by_id[subnet_id]
        return None

    def set_free_addresses(self, region: str, subnet_id: str, count: int) -> None:
        """Set how many addresses of a subnet are free now."""
        subnet = self.subnet(region, subnet_id)
        vars(subnet)["_available_ip_addresses"] += count - subnet.available_ip_address_count

    def default_subnets(self, region: str) -> Mapping[str, Any]:
        """Return zone -> its default subnet."""
        subnets: Mapping[str, Any] = self.ec2(region).get_default_subnets()
        return subnets

    def security_group(self, region: str, group_id: str) -> Any | None:
        """Return moto's record of a security group, or None."""
        return self.ec2(region).get_security_group_from_id(group_id)

    def default_group(self, region: str, vpc_id: str) -> Any:
        """Return the default security group of a VPC."""
        return self.ec2(region).get_default_security_group(vpc_id)

    def has_key(self, region: str, name: str) -> bool:
        """Return whether a key pair exists."""
        return name in self.ec2(region).key_pairs

    def has_profile(self, name_or_arn: str) -> bool:
        """Return whether IAM has an instance profile."""
        from moto.iam.models import iam_backends

        profiles = iam_backends[self.account]["aws"].instance_profiles.values()
        return any(name_or_arn in (profile.name, profile.arn) for profile in profiles)

    def resources(self) -> Iterator[Resource]:
        """Yield every resource that was created, without the default VPC of each region and its parts."""
        for region in self.used_regions():
            for kind, record in _records(self.ec2(region)):
                yield _resource(kind, record, region)


@contextmanager
def _descriptions_shared() -> Iterator[None]:
    """Share one loader: moto's EC2 opens four sessions when it is imported, and has each read EC2's description."""
    from botocore import session

    from multicompute_aws._descriptions import collector_paused, descriptions

    with _starting, collector_paused():
        create_loader = session.create_loader
        session.create_loader = lambda *_: descriptions()
        try:
            yield
        finally:
            session.create_loader = create_loader


def _connect(backend: Any) -> None:
    """Give the default VPC what moto leaves out: an internet gateway, and a route to it in the main route table.

    https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc.html, "Default VPC components".
    """
    vpc = backend.get_default_vpc()
    if vpc is None:
        return
    main = next(table for table in backend.route_tables.values() if table.vpc_id == vpc.id)
    if any(route.destination_cidr_block == "0.0.0.0/0" for route in main.routes):
        return
    gateway = backend.create_internet_gateway()
    backend.attach_internet_gateway(gateway.id, vpc.id)
    backend.create_route(main.id, "0.0.0.0/0", None, None, gateway_id=gateway.id)


def _remove_default_vpc(backend: Any) -> None:
    """Remove the default VPC of a region with its subnets, as `aws ec2 delete-vpc` does after its parts are deleted."""
    vpc = backend.default_vpc.id
    backend.vpcs.pop(vpc)
    backend.groups.pop(vpc, None)
    for by_id in backend.subnets.values():
        for name in [name for name, subnet in by_id.items() if subnet.vpc_id == vpc]:
            del by_id[name]
    backend.default_vpc = None


_BILLABLE = frozenset({"instance", "volume", "elastic-ip"})


def _records(backend: Any) -> Iterator[tuple[str, Any]]:
    """Yield the kind and moto's record of every resource that was created in a backend."""
    for groups in list(backend.groups.values()):
        yield from (("security-group", group) for group in list(groups.values()) if not group.is_default)
    for kind, records in (
        ("key-pair", backend.key_pairs),
        ("volume", backend.volumes),
        ("network-interface", backend.enis),
        ("launch-template", backend.launch_templates),
    ):
        yield from ((kind, record) for record in list(records.values()))
    yield from (("elastic-ip", address) for address in list(backend.addresses))
    for instance in backend.all_instances():
        if instance.state not in ("terminated", "shutting-down"):
            yield "instance", instance


def _resource(kind: str, record: Any, region: str) -> Resource:
    tags: Sequence[Mapping[str, str]] = record.get_tags()
    pairs = {tag.get("key", tag.get("Key", "")): tag.get("value", tag.get("Value", "")) for tag in tags}
    identifier = record.allocation_id if kind == "elastic-ip" else record.id
    return Resource("aws", kind, identifier, region, billable=kind in _BILLABLE, tags=pairs)
