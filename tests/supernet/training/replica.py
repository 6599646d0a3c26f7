"""What one of several training processes does in a test."""

from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from nasbench.config import TrainingConfig
from nasbench.supernet import build_supernet
from nasbench.supernet.replicas import alone, num_replicas, replica, sum_over_replicas
from nasbench.supernet.training.trainer import train_supernet


def train(rank, folder, settings, task, config):
    """Train as one of two, and write the weights that come of it."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.set_num_threads(1)
    supernet = build_supernet(settings)
    config = TrainingConfig.model_validate(config)
    train_supernet(
        supernet, task, config, seed=0, folder=Path(folder) / "checkpoints", fingerprint="f"
    )
    save_file(supernet.state_dict(), Path(folder) / f"{rank}.safetensors")
    dist.destroy_process_group()


def add_up(rank, folder):
    """Sum tensors of two types with another process, and not while alone."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    tensors = [torch.full((2, 3), 1.0 + rank), torch.tensor(rank, dtype=torch.float64)]
    tensors.append(torch.arange(3.0).float())
    sum_over_replicas(tensors)
    assert (replica(), num_replicas()) == (rank, 2)
    with alone():
        assert (replica(), num_replicas()) == (0, 1)
        sum_over_replicas([torch.ones(rank + 1)])  # would never meet
    save_file({str(i): tensor for i, tensor in enumerate(tensors)}, f"{folder}/{rank}.safetensors")
    dist.destroy_process_group()
