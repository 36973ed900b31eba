"""What a node must have in common with this process: packages, and the files that it is told of."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasrep.errors import RunError
from kerasrep.run_directory import home

#: Variables that mean the same everywhere.
_PASSED = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_DETERMINISTIC_OPS")
KERASREP = "kerasrep"

Facts = dict[str, str]


@dataclass(frozen=True)
class Shared:
    """What all nodes must see.

    Attributes:
        folder: Where this process works; relative paths start there.
        environment: Variables of the workers.
        token: A file that this process has written, and its content.
        paths: Files and folders that are there.
    """

    folder: Path
    environment: Mapping[str, str]
    token: tuple[Path, str]
    paths: tuple[Path, ...] = ()

    def enter(self, host: str) -> None:
        """On a node: work like the process that started it.

        Args:
            host: Of the node, for the message.

        Raises:
            RunError: Where the node does not see the same files.
        """
        os.environ.update(self.environment)
        path, content = self.token
        try:
            os.chdir(self.folder)
            found = path.read_text(encoding="utf-8")
        except OSError:
            found = ""
        if found != content:
            raise unseen(host, path.parent)
        for one in self.paths:
            if not os.path.lexists(one):
                raise unseen(host, one)


def shared_with(token: tuple[Path, str], paths: Sequence[Path] = ()) -> Shared:
    """Describe this process to the nodes.

    Args:
        token: A file that was just written, and its content.
        paths: Those of them that are here have to be there; what is missing here the work itself tells.
    """
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environment["KERASREP_HOME"] = str(home().absolute())
    seen = tuple(path.absolute() for path in paths if os.path.lexists(path))
    return Shared(Path.cwd(), environment, (token[0].absolute(), token[1]), seen)


def unseen(host: str, path: Path) -> RunError:
    """For a file that is here but not on a node."""
    return RunError(
        f"--ray: node {host} does not see {path}; all nodes need the same file system, mounted at the same "
        "place"
    )


def facts_function() -> Callable[[], Facts]:
    """A function that tells on any node the versions of what values come from.

    It is sent as code and uses nothing of kerasrep, which may be missing there, or be another one.
    """

    def facts() -> Facts:
        import hashlib
        import pathlib
        import sys
        from importlib import metadata, util

        found = {"Python": ".".join(map(str, sys.version_info[:2]))}
        for name in ("tensorflow", "keras", "kapre", "numpy", "soundfile", "soxr", "tensorflow-io"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = ""
        spec = util.find_spec("kerasrep")
        if spec is None or spec.origin is None:
            return {**found, "kerasrep": ""}
        package, digest = pathlib.Path(spec.origin).parent, hashlib.sha256()
        for path in sorted(package.rglob("*.py")):
            digest.update(f"{path.relative_to(package)}\0".encode())
            digest.update(path.read_bytes())
        return {**found, "kerasrep": f"with files {digest.hexdigest()[:12]}"}

    return facts


def check_facts(host: str, here: Facts, there: Facts) -> None:
    """Refuse a node that would give other values, or none.

    Raises:
        RunError: With the first package that differs.
    """
    for name in sorted(here, key=lambda name: name != KERASREP):
        mine, other = here[name], there.get(name, "")
        if mine != other:
            raise RunError(
                f"--ray: node {host} has {f'{name} {other}' if other else f'no {name}'}, this process "
                f"{f'{name} {mine}' if mine else 'none'}; install the same on all nodes"
            )
