"""What the backward pass keeps: half in half precision, block inputs alone where activations are checkpointed."""

from collections.abc import Callable

import pytest
import torch

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.model.blocks import Norm

FULL_SHAPE = {
    "size": "full", "d_model": 64, "n_heads": 4, "d_ff": 256, "patch_length": 12, "attention": "sdpa", "dropout": 0.0,
    "kernels": "plain",  # as on a GPU; the fused operations keep next to nothing
}  # fmt: skip


def kept_bytes(model: MIGT_TVDT, windows: int, clock: dict, dtype: torch.dtype | None) -> int:
    """Bytes of all tensors that autograd saves for a batch, each storage once, without the weights."""
    seen: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    features = torch.randn(windows, model.config.context, model.config.n_features)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        output = model(features, None, clock)["quantiles"]
    output.sum().backward()  # the graph lives until it has been counted
    return sum(seen.values())


def test_half_precision_keeps_about_half_of_what_single_precision_keeps(clock: Callable) -> None:
    model = MIGT_TVDT(ModelConfig(**FULL_SHAPE), seed=0).train()
    times = clock(4, 288)
    assert kept_bytes(model, 4, times, torch.bfloat16) <= 0.55 * kept_bytes(model, 4, times, None)


def test_checkpointed_activations_take_less_memory_the_longer_the_context(clock: Callable) -> None:
    shares = []
    for patch_length in (24, 6):
        sizes = FULL_SHAPE | {"patch_length": patch_length}
        times = clock(4, 288)
        plain, kept = (
            kept_bytes(MIGT_TVDT(ModelConfig(**sizes, activation_checkpointing=on), seed=0).train(), 4, times, None)
            for on in (False, True)
        )
        shares.append(kept / plain)
    assert shares[1] < shares[0] < 0.6
    assert shares[1] < 0.25


@pytest.mark.parametrize("kernel", ["bmm", "sdpa"])
def test_checkpointing_changes_no_gradient_by_a_bit_with_masks_and_dropout(batch: dict, kernel: str) -> None:
    gradients = []
    valid = torch.ones(batch["features"].shape[:2], dtype=torch.bool)
    valid[0, :16] = False
    for on in (False, True):
        sizes = {"n_features": 4, "context": 48, "patch_length": 8, "dropout": 0.3, "attention": kernel}
        model = MIGT_TVDT(ModelConfig(size="test", **sizes, activation_checkpointing=on), seed=0).train()
        with torch.no_grad():
            model.head.delta.weight.fill_(0.1)
        torch.manual_seed(5)
        model(batch["features"], valid, batch["clock"], batch["scale"])["quantiles"].sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    plain, again = gradients
    assert all(torch.equal(plain[name], again[name]) for name in plain)


def test_the_norm_of_half_precision_tokens_is_that_of_single_precision_ones() -> None:
    torch.manual_seed(0)
    norm, x = Norm(32), torch.randn(5, 7, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = norm(x.bfloat16())
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.float(), norm(x), rtol=2e-2, atol=2e-2)
    assert norm(x).dtype == torch.float32
