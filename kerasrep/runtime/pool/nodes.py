"""What a node must have in common with this process: packages, and the files that it is told of."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kerasrep.errors import RunError
from kerasrep.runtime.pool.cluster import Node, import_ray
from kerasrep.storage.run_directory import home, write_text

#: Variables that mean the same everywhere.
_PASSED = ("KERAS_BACKEND", "TF_CPP_MIN_LOG_LEVEL", "TF_DETERMINISTIC_OPS", "TF_ENABLE_ONEDNN_OPTS")
KERASREP = "kerasrep"
#: What a network file system may take to show a file that another machine has renamed.
APPEAR_SECONDS = 30.0
#: What a node may take to tell its versions.
FACTS_SECONDS = 60.0

Facts = dict[str, str]


@dataclass(frozen=True)
class Shared:
    """What all nodes must see.

    Attributes:
        folder: Where this process works; relative paths start there.
        environment: Variables of the workers.
        tokens: Files that this process has written, and their content.
        paths: Files and folders that are there.
    """

    folder: Path
    environment: Mapping[str, str]
    tokens: tuple[tuple[Path, str], ...]
    paths: tuple[Path, ...] = ()

    def enter(self, host: str) -> None:
        """On a node: work like the process that started it.

        Args:
            host: Of the node, for the message.

        Raises:
            RunError: Where the node does not see the same files.
        """
        os.environ.update(self.environment)
        try:
            os.chdir(self.folder)
        except OSError as error:
            raise unseen(host, self.folder) from error
        for path, content in self.tokens:
            if _content(path) != content:
                raise unseen(host, path.parent)
        for one in self.paths:
            if not os.path.lexists(one):
                raise unseen(host, one)


@contextlib.contextmanager
def shared_with(folders: Sequence[Path], paths: Sequence[Path] = ()) -> Iterator[Shared]:
    """Describe this process to the nodes.

    Args:
        folders: They are there, and nodes have to see what this process writes to them: a small file each,
            which goes at the end of the block.
        paths: Those of them that are here have to be there; what is missing here the work itself tells.
    """
    environment = {name: os.environ[name] for name in _PASSED if name in os.environ}
    environment["KERASREP_HOME"] = str(home().absolute())
    seen = tuple(path.absolute() for path in paths if os.path.lexists(path))
    content = secrets.token_hex(16)
    tokens = [(folder.absolute() / f".nodes-{content[:8]}", content) for folder in dict.fromkeys(folders)]
    try:
        for token in tokens:
            write_text(*token)
        yield Shared(Path.cwd(), environment, tuple(tokens), seen)
    finally:
        for path, _ in tokens:
            path.unlink(missing_ok=True)


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def await_file(path: Path, host: str) -> None:
    """Wait until a file is here that a node has written.

    Raises:
        RunError: Where it does not come.
    """
    deadline = time.monotonic() + APPEAR_SECONDS
    while not path.exists():
        if time.monotonic() > deadline:
            raise RunError(
                f"--ray: {path}, which node {host} wrote, is not here; all nodes need the same file "
                "system, mounted at the same place"
            )
        time.sleep(0.1)


def check_missing(host: str, paths: Sequence[Path]) -> None:
    """Look at files that a node did not find.

    Raises:
        RunError: Where one is here.
    """
    for path in paths:
        if os.path.lexists(path):
            raise unseen(host, path)


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
        for name in (
            "tensorflow",
            "keras",
            "kapre",
            "numpy",
            "soundfile",
            "av",
            "soxr",
            "tensorflow-io",
            "scikit-learn",
        ):
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


def on(node_id: str) -> Any:
    """Ray's way to say that something runs on a node and on no other."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)


class Inspector:
    """Asks nodes once for their packages."""

    def __init__(self) -> None:
        self._ray = import_ray()
        self._here: Facts = facts_function()()
        self._fit: set[str] = set()

    def fit(self, nodes: Sequence[Node]) -> list[Node]:
        """Those that answer.

        Raises:
            RunError: Where one has other packages.
        """
        facts = self._ray.remote(facts_function())
        asked = {
            node: facts.options(num_cpus=0, scheduling_strategy=on(node.id)).remote()
            for node in nodes
            if node.id not in self._fit
        }
        for node, reference in asked.items():
            # One that dies meanwhile is asked again when it comes back.
            with contextlib.suppress(self._ray.exceptions.RayError):
                check_facts(node.address, self._here, self._ray.get(reference, timeout=FACTS_SECONDS))
                self._fit.add(node.id)
        return [node for node in nodes if node.id in self._fit]
