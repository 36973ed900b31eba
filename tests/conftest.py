"""What all tests share: a home of their own, quiet TensorFlow, and small recipes."""

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hypothesis
import numpy as np
import pytest

from kerasrep.data import notices
from kerasrep.data.audio import require_decoder
from kerasrep.errors import RunError
from kerasrep.recipe.schema import Recipe

if TYPE_CHECKING:
    from kerasrep.embedding.embedder import Embedder
    from kerasrep.model.restore import TrainedRun

pytest_plugins = ["tones", "million_song_fixtures"]

# Read when TensorFlow is first imported, which is after this file.
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

# Slow machines stall now and then, and the same examples everywhere make failures repeatable.
hypothesis.settings.register_profile("kerasrep", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("kerasrep")


def pytest_configure(config: pytest.Config) -> None:
    """Give processes of pytest-xdist one thread of BLAS each: the threads of several wait for each other, and
    busily, so that the smallest networks of scikit-learn took twenty times as long.
    """
    if config.getoption("numprocesses", None):
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs tensorflow-io where it is not installed."""
    if item.get_closest_marker("io") is not None:
        try:
            require_decoder("tensorflow-io")
        except RunError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window: one a module, as playwright's event loop keeps others from running."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
    with sync_api.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=flags)
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """A function that opens an address or a file; at the end no page has complained of anything."""
    said: list[str] = []
    contexts: list[Any] = []

    def open_it(address: str | Path, width: int = 1400, height: int = 900, **settings: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address if isinstance(address, str) else address.as_uri())
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert said == []


@pytest.fixture(scope="session")
def serious_faults() -> Callable[[Any], list[tuple[str, str]]]:
    """A function that finds what is not accessible in a page, opened with `bypass_csp`: rule and element."""
    carrier = pytest.importorskip("axe_playwright_python", reason="axe-playwright-python is not installed")
    script = Path(carrier.__file__).with_name("axe.min.js")

    def find(page: Any) -> list[tuple[str, str]]:
        page.add_script_tag(path=script)
        found = page.evaluate("axe.run().then((results) => results.violations)")
        bad = [one for one in found if one["impact"] in ("serious", "critical")]
        return [(one["id"], one["nodes"][0]["html"]) for one in bad]

    return find


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Train first: pytest-xdist deals out long runs of tests in the beginning, so that what the tests of a
    module share is made in one process; and what takes long does not end last.
    """
    items.sort(key=lambda item: item.path.parent.name not in ("training", "tuning"))


def pytest_collection_finish() -> None:
    """Keep Python's search for cycles from walking, again and again, through what imports have made: with
    TensorFlow that is half a million objects, and took a tenth of the time of all tests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep corpora and prepared data of the tests out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERASREP_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True)
def _no_notices() -> None:
    """Start every test without notices of another's files: a process keeps one list."""
    notices.take()


@pytest.fixture
def write_yaml(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a recipe file and returns its path."""

    def write(content: str | bytes, name: str = "recipe.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def make_recipe() -> Callable[..., Recipe]:
    """A function that makes a small two-source recipe; keywords replace its sections."""

    def make(**sections: Any) -> Recipe:
        values = {"name": "test", "strategy": "mss-cr", "sources": ["tag", "year"], "batches": {"size": 8}}
        return Recipe.model_validate(values | sections)

    return make


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "TrainedRun"]:
    """A function that writes a run directory as training leaves it, with seeded random weights."""

    def make(
        strategy: str = "mss-cr", sources: tuple[str, ...] = ("year", "tag"), **sections: Any
    ) -> "TrainedRun":
        from kerasrep.model.restore import TrainedRun, save_scaler, save_weights
        from kerasrep.model.strategies import Scaler, network_of
        from kerasrep.recipe.file import write_recipe
        from kerasrep.storage.run_directory import RunDirectory

        values = {"name": "small", "strategy": strategy, "sources": sources, "model": {"width": 0.25}}
        recipe = Recipe.model_validate(values | sections)
        run = RunDirectory(tmp_path_factory.mktemp("run"))
        scaler = Scaler(np.full(128, -30, np.float32), np.full(128, 15, np.float32))
        network = network_of(recipe, dict.fromkeys(sources, 5), scaler)
        rng = np.random.default_rng(0)
        for variable in network.trunk.variables:  # as a trained network's, so that nothing cancels
            if variable.path.endswith(("beta", "moving_mean")):
                variable.assign(rng.normal(0, 0.2, variable.shape))
            elif variable.path.endswith(("gamma", "moving_variance")):
                variable.assign(rng.uniform(0.5, 1.5, variable.shape))
        write_recipe(run.recipe, recipe)
        save_scaler(run.scaler, scaler)
        save_weights(run.best, network)
        return TrainedRun(run, recipe, network)

    return make


@pytest.fixture(scope="session")
def plain_run(make_run: Callable[..., "TrainedRun"]) -> "TrainedRun":
    """The smallest network there is, for what does not look into it."""
    return make_run("ms-sr@fc", model={"width": 0.0625})


@pytest.fixture(scope="session")
def plain_export(plain_run: "TrainedRun", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of an export of `plain_run`; do not write to it."""
    from kerasrep.serving.export import export_run

    return export_run(plain_run, tmp_path_factory.mktemp("exported"), "plain")


@pytest.fixture(scope="session")
def small_run(make_run: Callable[..., "TrainedRun"]) -> "TrainedRun":
    """Two branches in an order that is not alphabetical, with the run's `.keras` file."""
    trained = make_run()
    trained.network.embedder.save(trained.run.model)
    return trained


@pytest.fixture(scope="session")
def small_export(small_run: "TrainedRun", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version 1 of an export of `small_run`; do not write to it."""
    from kerasrep.serving.export import export_run

    return export_run(small_run, tmp_path_factory.mktemp("exported"), "small")


@pytest.fixture(scope="session")
def small_model(small_export: Path) -> "Embedder":
    """`small_export`, loaded."""
    from kerasrep.embedding.embedder import load

    return load(small_export)
