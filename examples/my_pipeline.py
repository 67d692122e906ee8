"""A training script of a user: requests the cheapest H100 and terminates them afterwards."""

from multicompute import Cluster


def train(gpus: int = 64) -> str:
    """Return the command that starts training on `gpus` H100, with place and price."""
    with Cluster.request(gpus=gpus, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        command = f"torchrun --nnodes {len(cluster.nodes)} --rdzv-endpoint {cluster.head.private_ip}:29500 train.py"
        return f"{command}  # {cluster.provider} {cluster.zone}, ${cluster.hourly_cost:.2f}/h"


if __name__ == "__main__":
    print(train())
