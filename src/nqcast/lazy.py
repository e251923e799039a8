"""Public names of a package, imported from their modules on first use (PEP 562): a configuration costs no torch."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(package: str, **modules: str) -> tuple[list[str], Callable[[str], Any]]:
    """The `__all__` and `__getattr__` of a package whose `modules` have these public names, parted by spaces."""
    home = {name: module for module, names in modules.items() for name in names.split()}

    def member(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return sorted(home), member
