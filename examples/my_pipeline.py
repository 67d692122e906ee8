"""A user's training script: as many H100 as it needs, wherever they are cheapest, and nothing left running afterwards."""

from multicompute import Cluster


def train(gpus: int = 64) -> str:
    """Train on `gpus` H100 and say where, on what and for how much."""
    with Cluster.request(gpus=gpus, type="h100", ttl="12h", tags={"team": "nlp"}) as cluster:
        command = f"torchrun --nnodes {len(cluster.nodes)} --rdzv-endpoint {cluster.head.private_ip}:29500 train.py"
        return f"{command}  # {cluster.provider} {cluster.zone}, ${cluster.hourly_cost:.2f}/h"


if __name__ == "__main__":
    print(train())
