"""How memory is kept changes no number; how much it saves is benchmarks/host_memory.py's to say."""

import platform
import subprocess
import sys

import pytest

CODE = """
import hashlib, sys, torch
from nqcast.training.device import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
layer = torch.nn.Linear(64, 64)
with torch.no_grad():
    for i, weight in enumerate(layer.parameters()):
        weight.copy_(torch.linspace(-1, 1, weight.numel()).reshape(weight.shape).roll(i))
x = torch.linspace(-2, 2, 64 * 30_000).reshape(30_000, 64).requires_grad_()
for _ in range(3):
    x.grad = None
    torch.tanh(layer(x)).square().sum().backward()
print(hashlib.sha256(x.grad.numpy().tobytes()).hexdigest())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's; run on Linux with glibc")
def test_kept_memory_changes_no_number() -> None:
    digests = {
        word: subprocess.run(
            [sys.executable, "-c", CODE, word], capture_output=True, text=True, check=True, timeout=120
        ).stdout
        for word in ("leave", "keep")
    }
    assert digests["leave"] == digests["keep"]
