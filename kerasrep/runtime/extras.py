"""Libraries that only some users need: the extras of setup.py."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec

from kerasrep.errors import RunError


def require(extra: str, modules: tuple[str, ...], what: str) -> None:
    """Say what to install, before any work, where a library of an extra is missing.

    Args:
        extra: Its name in setup.py.
        modules: What will be imported.
        what: What needs them, as the user knows it.

    Raises:
        RunError: Naming the first that is missing.
    """
    for module in modules:
        if find_spec(module) is None:
            raise RunError(f"{what}: needs {module}; python -m pip install 'kerasrep[{extra}]'")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Package -> its version, or `not installed`."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found
