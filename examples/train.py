"""Train a small model on all nodes: `cluster.torchrun("train.py")`. Needs PyTorch on the nodes, on GPUs or CPUs."""

import argparse

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
steps = parser.parse_args().steps

has_gpus = torch.cuda.is_available()
distributed.init_process_group("nccl" if has_gpus else "gloo")
rank, size = distributed.get_rank(), distributed.get_world_size()
device = torch.device("cuda", rank % torch.cuda.device_count()) if has_gpus else torch.device("cpu")
torch.manual_seed(rank)  # other data on every rank; DistributedDataParallel makes the weights equal
model = DistributedDataParallel(nn.Sequential(nn.Linear(2, 64), nn.Tanh(), nn.Linear(64, 1)).to(device))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for step in range(1, steps + 1):
    points = torch.rand(256, 2, device=device) * 2 - 1
    loss = nn.functional.mse_loss(model(points), points.prod(dim=1, keepdim=True))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 50 == 0:
        print(f"step {step} of {steps} on {size} processes: loss {loss.item():.5f}", flush=True)

if rank == 0:
    torch.save(model.module.state_dict(), "model.pt")
distributed.destroy_process_group()
