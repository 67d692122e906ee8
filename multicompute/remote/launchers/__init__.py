"""Starts distributed engines on nodes: torchrun, JAX, Open MPI and Ray, each by its own launcher."""
