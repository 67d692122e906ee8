"""The way to log in to instances, and the host keys that they have written to their consoles."""

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from botocore.exceptions import ClientError

from multicompute.errors import MulticomputeError
from multicompute.node import Node
from multicompute.provider import Access
from multicompute.provider_kit.access import Tunnel, access_to, local_access, preferred_host_key
from multicompute.provider_kit.calls import in_parallel
from multicompute.provider_kit.vendor_errors import Place
from multicompute_aws._errors import code_of, log, translate_errors
from multicompute_aws._session import Clients
from multicompute_aws._settings import AwsSettings

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client

# https://docs.aws.amazon.com/dlami/latest/devguide/launch-from-console.html and
# https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/managing-users.html: the user of Ubuntu's images, which all default images are.
_USER: Final = "ubuntu"
# https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-getting-started-enable-ssh-connections.html
_SESSION: Final = "aws ssm start-session --target {instance_id} --document-name AWS-StartSSHSession --parameters portNumber=%p --region {region}"
_PAGE: Final = (
    "https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"
)
_AT_ONCE: Final = 8
# cloud-init's module "Keys to Console" writes the public host keys of the node, one on a line:
# https://cloudinit.readthedocs.io/en/latest/reference/modules.html#keys-to-console. The console may add a prefix to each line.
_KEYS: Final = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
_KEY: Final = re.compile(r"(?:ssh|ecdsa)-[a-z0-9-]+ AAAA[A-Za-z0-9+/=]+")


def access(settings: AwsSettings, node: Node) -> Access:
    """Return how to log in to an instance."""
    if settings.is_local:
        return local_access(settings.endpoint("ec2") or "", node.id)
    profile = settings.named_profile
    # A percent sign has a meaning in the command.
    command = f"{_SESSION} --profile {shlex.quote(profile.replace('%', '%%'))}" if profile else _SESSION
    tunnel = Tunnel("AWS Session Manager", ("aws", "session-manager-plugin"), command, _PAGE)
    return access_to(node, settings, user=_USER, tunnel=tunnel, environment=settings.environment)


def host_keys(clients: Clients, nodes: Sequence[Node]) -> Mapping[str, str]:
    """Return the host keys that instances have written to their consoles, which only the instance and AWS can write to."""

    def read(node: Node) -> tuple[str, str | None]:
        try:
            return node.id, preferred_host_key(keys_in(_console(clients.ec2(node.region), node)))
        except MulticomputeError as error:
            log.info("the console of %s can't be read: %s", node.id, error)
            return node.id, None

    found = in_parallel(read, nodes, at_once=_AT_ONCE)
    return {node_id: key for node_id, key in found if key}


def keys_in(console: str) -> Iterator[str]:
    """Yield the host keys in the first block of a console that has some."""
    block = _KEYS.search(console)
    yield from _KEY.findall(block[1]) if block else ()


def _console(ec2: "EC2Client", node: Node) -> str:
    with translate_errors("GetConsoleOutput", Place("aws", node.region, node.zone, node.instance_type)):
        try:
            # The output of now instead of some minutes after the boot, on Nitro types:
            # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_GetConsoleOutput.html
            return ec2.get_console_output(InstanceId=node.id, Latest=True).get("Output", "")
        except ClientError as error:
            if code_of(error) != "UnsupportedOperation":
                raise
            return ec2.get_console_output(InstanceId=node.id).get("Output", "")
