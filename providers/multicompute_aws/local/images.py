"""The public SSM parameters with image ids that the local AWS has; AWS publishes more, but none under other names of these kinds."""

from collections.abc import Iterator, Mapping


def _parameters() -> Iterator[tuple[str, str]]:
    # https://github.com/aws-samples/aws-hpc-recipes, "recipes/pcs", and the release notes of each image in
    # https://docs.aws.amazon.com/dlami/latest/devguide/appendix-ami-release-notes.html
    for system in ("ubuntu-22.04", "ubuntu-24.04", "amazon-linux-2023"):
        for arch in ("x86_64", "arm64"):
            yield f"/aws/service/deeplearning/ami/{arch}/base-oss-nvidia-driver-gpu-{system}/latest/ami-id", arch
    # https://awsdocs-neuron.readthedocs-hosted.com/en/latest/dlami/index.html, "SSM Parameter Prefix"
    for name in (
        "multi-framework/ubuntu-24.04",
        "multi-framework/ubuntu-22.04",
        "pytorch-2.9/ubuntu-24.04",
        "pytorch-2.8/ubuntu-22.04",
        "pytorch-inference-vllm/ubuntu-24.04",
        "jax-0.7/ubuntu-24.04",
        "jax-0.7/amazon-linux-2023",
        "tensorflow-2.10/ubuntu-22.04",
        "base/ubuntu-24.04",
        "base/ubuntu-22.04",
        "base/amazon-linux-2023",
    ):
        yield f"/aws/service/neuron/dlami/{name}/latest/image_id", "x86_64"
    # https://documentation.ubuntu.com/aws/aws-how-to/instances/find-ubuntu-images/: gp3 from 24.04 on, gp2 before
    for release, disk in (("24.04", "ebs-gp3"), ("22.04", "ebs-gp2")):
        for cpu, arch in (("amd64", "x86_64"), ("arm64", "arm64")):
            yield f"/aws/service/canonical/ubuntu/server/{release}/stable/current/{cpu}/hvm/{disk}/ami-id", arch


IMAGE_PARAMETERS: Mapping[str, str] = dict(_parameters())
"""The name of each parameter -> the architecture of its image."""
