"""Out of memory: recognised, and what would have been needed. `step` answers it by smaller micro-batches."""

import torch
from torch import Tensor, nn

from nqcast.batches import Batch, n_windows, outputs, rows_of
from nqcast.stopping import RunEndedError


class OutOfMemoryError(RunEndedError):
    """A micro-batch does not fit; the message estimates what it needs."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch raised `error` for want of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def bytes_per_window(model: nn.Module, batch: Batch) -> int:
    """Bytes that the backward pass of one more window keeps: tensors saved for two windows less those for one."""
    one, two = (_saved_bytes(model, rows_of(batch, slice(n))) for n in (1, 2))
    return max(two - one, 0) or one


def _saved_bytes(model: nn.Module, batch: Batch) -> int:
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = outputs(model, batch)["quantiles"].sum()  # alive until all of its graph has been counted
    return sum(seen.values()) + kept.element_size()


def explanation(model: nn.Module, batch: Batch, pieces: int) -> str:
    """What a micro-batch needs beside what the model needs, and how to make it fit."""
    own = sum(p.numel() * p.element_size() for p in model.parameters())
    windows = -(-n_windows(batch) // pieces)
    try:
        each = bytes_per_window(model, batch)
        need = f"about {_gib(each * windows)} ({each / 2**20:.2f} MiB a window)"
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        need = "more than there is even for one window"
    return (
        f"expected a micro-batch of {windows} windows to fit into memory, found it does not: it needs {need} beside "
        f"{_gib(4 * own)} of weights, gradients and moments{_device_memory(batch)}; set train.on_out_of_memory=halve, "
        "or halve train.batch_size and double train.accumulation, which trains the same; the same command goes on "
        "from the last checkpoint"
    )


def _device_memory(batch: Batch) -> str:
    device = batch["features"].device
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    return f", of {_gib(total)} on {torch.cuda.get_device_name(device)} ({_gib(free)} free now)"


def _gib(n_bytes: int) -> str:
    return f"{n_bytes / 2**30:.3g} GiB"
