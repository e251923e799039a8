"""Out of memory: recognised, estimated, and answered by smaller micro-batches."""

from typing import Any

import torch
from torch import Tensor, nn

from nqcast.stopping import RunEndedError

Batch = dict[str, Any]
_UNBATCHED_2D = "unit_quantiles"  # (H, Q) where one table serves all windows


class OutOfMemoryError(RunEndedError):
    """A micro-batch does not fit; the message estimates what it needs."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch raised `error` for want of memory, on a GPU or on the CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def n_windows(batch: Batch) -> int:
    """Windows in a batch."""
    return int(batch["targets"].shape[0])


def parts(batch: Batch, n: int) -> list[Batch]:
    """The batch in at most `n` pieces of whole windows, in order; [batch] for n = 1."""
    if n == 1:
        return [batch]
    total = n_windows(batch)
    size = -(-total // min(n, total))
    return [_rows(batch, slice(start, start + size)) for start in range(0, total, size)]


def piece(batch: Batch, i: int, n: int) -> Batch:
    """Piece `i` of `n` nearly equal ones; one window without a defined target where there is no window left for it."""
    if n == 1:
        return batch
    total = n_windows(batch)
    start, stop = total * i // n, total * (i + 1) // n
    if start < stop:
        return _rows(batch, slice(start, stop))
    empty = _rows(batch, slice(0, 1))
    return {**empty, "targets": torch.full_like(empty["targets"], torch.nan)}


def _rows(batch: Batch, rows: slice) -> Batch:
    def cut(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return _rows(value, rows)
        if not isinstance(value, Tensor) or (name == _UNBATCHED_2D and value.ndim == 2):
            return value
        return value[rows]

    return {name: cut(name, value) for name, value in batch.items()}


def bytes_per_window(model: nn.Module, batch: Batch) -> int:
    """Bytes that the backward pass of one more window keeps: tensors saved for two windows less those for one."""
    one, two = (_saved_bytes(model, _rows(batch, slice(n))) for n in (1, 2))
    return max(two - one, 0) or one


def _saved_bytes(model: nn.Module, batch: Batch) -> int:
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(*(batch.get(name) for name in ("features", "attention_mask", "temporal_info", "scale")))
        kept = output["quantiles"].sum()  # alive until all of its graph has been counted
    return sum(seen.values()) + kept.element_size()


def explanation(model: nn.Module, batch: Batch, splits: int) -> str:
    """What a micro-batch needs beside what the model needs, and how to make it fit."""
    own = sum(p.numel() * p.element_size() for p in model.parameters())
    windows = -(-n_windows(batch) // splits)
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
