"""The layers of the package, read from its imports: they go down only."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "kerasrep"
#: Scripts, whose tests import them by their names.
STARTER = ROOT / "recipes" / "starter"

#: Top to bottom: each imports what stands below it. A module belongs to the longest name that it begins with.
LAYERS = (
    {"cli"},
    {"experiments"},
    {"api"},
    {"evaluation.suite", "evaluation.chosen_tasks"},
    {"serving"},
    {"embedding", "training"},
    {"corpora"},
    {"data", "model"},
    {"sources", "evaluation"},
    {"report"},
    {"recipe"},
    {"runtime"},
    {"storage"},
    {"errors", "constants"},
)
RANK = {unit: rank for rank, units in enumerate(LAYERS) for unit in units}
WITHOUT_TENSORFLOW = {"report", "recipe", "runtime", "storage", "errors", "constants", "evaluation"}
MODULES_AT_THE_ROOT = 8
ONLY_HERE = {
    "kapre": {"model.frontend"},
    "tqdm": {"runtime.console"},
    "tensorflow_io": {"data.audio"},
    "av": {"data.decoders.ffmpeg"},
    "music21": {"corpora.demo"},
    "symusic": {"corpora.demo"},
    "pretty_midi": {"corpora.demo"},
    "jinja2": {"report"},
    "keras_tuner": {"experiments.tuning"},
    "torch": {"model.reference_checkpoint"},
    "tensorflow_serving": set(),
    "grpc": {"serving", "runtime.pool"},
    "ray": {"runtime.pool", "training.on_ray"},
    "onnx": {"serving.runtimes.onnx_file"},
    "tf2onnx": {"serving.runtimes.onnx_file"},
    "onnxruntime": {"serving.runtimes.onnx_file"},
    "usearch": {"embedding.listening.nearest"},
    "umap": {"embedding.listening.space"},
    "mirdata": {"sources.readers.mirdata_labels"},
}
#: Parts that need an extra of setup.py.
EXTRA = {
    "model.frontend": "kapre",
    "data.audio": "io",
    "corpora.demo": "demo",
    "model.reference_checkpoint": "torch",
    "serving.runtimes.onnx_file": "onnx",
    "serving.client": "serving",
    "serving.grpc_transport": "serving",
    "serving.rest": "serving",
    "experiments.study.analysis": "study",
    "sources.readers.mirdata_labels": "mirdata",
    "embedding.listening.nearest": "search",
    "embedding.listening.space": "map",
    "runtime.pool": "scale",
    "training.on_ray": "scale",
}
DISTRIBUTION = {
    "google": "protobuf",
    "google_crc32c": "google-crc32c",
    "grpc": "grpcio",
    "keras_tuner": "keras-tuner",
    "pydantic_core": "pydantic",
    "sklearn": "scikit-learn",
    "tensorflow_io": "tensorflow-io",
    "tensorflow_serving": "tensorflow-serving-api",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def dotted(path: Path) -> str:
    """Module name below the package: `cli.train`, `sources` for its `__init__`, "" for the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of what a module imports, wherever in it; of `from a import b` both `a` and `a.b`."""
    package = ["kerasrep", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def unit_of(module: str) -> str | None:
    """The unit of a module below the package, `None` for the package itself and what is no part of it."""
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in RANK), None)


def units_imported(path: Path) -> set[str]:
    """Units that a module imports: `errors`, `sources`, ..."""
    names = {name.removeprefix("kerasrep.") for name in imports(path) if name.startswith("kerasrep.")}
    return {unit for unit in map(unit_of, names) if unit is not None}


def third_party(path: Path) -> set[str]:
    names = {name.partition(".")[0] for name in imports(path)}
    return names - set(sys.stdlib_module_names) - {"kerasrep"}


def test_every_part_of_the_package_has_a_layer():
    assert [dotted(path) for path in MODULES if dotted(path) and unit_of(dotted(path)) is None] == []


def test_few_modules_stand_at_the_root():
    assert len(list(PACKAGE.glob("*.py"))) <= MODULES_AT_THE_ROOT


@pytest.mark.parametrize("path", [p for p in MODULES if dotted(p)], ids=dotted)
def test_imports_go_down_only(path):
    unit = unit_of(dotted(path))
    for other in units_imported(path) - {unit}:
        assert RANK[other] > RANK[unit], f"{dotted(path)} must not import {other}"


def test_no_modules_import_each_other_in_a_circle():
    known = {dotted(path): path for path in MODULES if dotted(path)}
    below = {
        name: {other.removeprefix("kerasrep.") for other in imports(path)} & set(known) - {name}
        for name, path in known.items()
        if path.name != "__init__.py"
    }
    try:
        tuple(TopologicalSorter(below).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {error.args[1]}")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "kerasrep")
def test_libraries_stay_where_they_belong(path):
    module = dotted(path)
    for library in third_party(path):
        homes = ONLY_HERE.get(library)
        allowed = homes is None or any(module == home or module.startswith(f"{home}.") for home in homes)
        assert allowed, f"{module} must not import {library}: that belongs to {homes}"
    if unit_of(module) in WITHOUT_TENSORFLOW or module.startswith("experiments.study"):
        assert not third_party(path) & {"tensorflow", "keras", "kapre", "tensorflow_io"}


def declared() -> dict[str, set[str]]:
    """Distributions that setup.py requires, by extra; "" without any."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    literals = {
        node.targets[0].id: ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id in {"REQUIREMENTS", "EXTRAS"}
    }
    names = {"": literals["REQUIREMENTS"], **literals["EXTRAS"]}
    return {extra: {re.match(r"[\w-]+", line)[0].lower() for line in lines} for extra, lines in names.items()}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: dotted(path) or "kerasrep")
def test_every_import_is_declared(path):
    extras = {extra for part, extra in EXTRA.items() if dotted(path).startswith(part)}
    known = declared()[""].union(*(declared()[extra] for extra in extras))
    assert {DISTRIBUTION.get(name, name) for name in third_party(path)} <= known


def test_every_import_of_the_tests_is_declared():
    extras = declared()
    known = extras[""] | extras["demo"] | extras["io"] | extras["torch"] | extras["scale"] | extras["test"]
    for path in sorted((ROOT / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        names |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        top = {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"kerasrep", ""}
        local = {p.stem for folder in (path.parent, ROOT / "tests", STARTER) for p in folder.glob("*.py")}
        assert {DISTRIBUTION.get(name, name) for name in top - local} <= known, path


def test_importing_the_package_and_its_commands_imports_no_tensorflow():
    commands = [
        f"kerasrep.cli.{p.stem}" for p in sorted((PACKAGE / "cli").glob("*.py")) if p.stem != "__init__"
    ]
    code = f"import sys, importlib\nfor m in {['kerasrep', *commands]}: importlib.import_module(m)\n"
    code += "print(sorted({'tensorflow', 'keras', 'kapre', 'pydantic', 'music21'} & set(sys.modules)))"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == "[]\n"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import kerasrep.data.audio", {"data"}),
        ("from kerasrep import errors, sources", {"errors", "sources"}),
        ("from .. import training", {"training"}),
        ("from ..model import heads", {"model"}),
        ("def f():\n    from kerasrep.cli import train", {"cli"}),
        ("import kerasrep\nimport numpy", set()),
    ],
)
def test_the_reader_of_imports_sees_every_form(monkeypatch, tmp_path, source, found):
    for unit in RANK:
        (tmp_path / unit.replace(".", "/")).mkdir(parents=True, exist_ok=True)
    (tmp_path / "serving" / "module.py").write_text(source)
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    assert units_imported(tmp_path / "serving" / "module.py") == found
