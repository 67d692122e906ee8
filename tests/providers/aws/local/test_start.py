"""A local AWS starts quickly: it reads EC2's description once, and creates moto's images only where a call needs them."""

import subprocess
import sys
from typing import Any

from moto.ec2.models import ec2_backends

from multicompute.testing import running
from multicompute_aws.local import AwsLocalCloud

COUNTING = """
from unittest.mock import patch

import botocore.session
from botocore.loaders import JSONFileLoader, create_loader

paths = []
load_file = JSONFileLoader.load_file

def counted(loader, path):
    found = load_file(loader, path)
    if found is not None:
        paths.append(path)
    return found

with patch.object(JSONFileLoader, "load_file", counted):
    from multicompute_aws.local import AwsLocalCloud

    cloud = AwsLocalCloud()
    cloud.start()
    cloud.seed_foreign()
    cloud.stop()
print(sum("ec2" in path and path.endswith("service-2") for path in paths), botocore.session.create_loader is create_loader)
"""


def test_ec2s_description_is_read_once_and_other_sessions_keep_their_own_loader() -> None:
    done = subprocess.run([sys.executable, "-c", COUNTING], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split(), done.stderr) == (["1", "True"], "")


def test_an_instance_in_moto_does_not_create_motos_public_images(client_of: Any) -> None:
    with running(AwsLocalCloud(store="moto")) as cloud:
        cloud.seed_foreign()
        images = ec2_backends[cloud.account]["us-east-1"].amis
        # `copy` returns the images that exist, here that of the instances.
        assert len(images.copy()) == 1
        assert len(client_of(cloud)("ec2").describe_images()["Images"]) > 1000
        assert len(images.copy()) > 1000
