"""What a study recipe may say, and how it is read: as strictly as the recipes of single runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kerasrep import constants
from kerasrep.errors import RecipeError
from kerasrep.experiments.job import EvaluationSettings
from kerasrep.recipe.base import FileName, ImpossibleSetting, PathText, Settings, SourceName, in_order
from kerasrep.recipe.file import Draft, read_draft, read_named
from kerasrep.recipe.schema import Recipe
from kerasrep.recipe.tasks import TableTask

MultiStrategy = Literal["mss-cr", "ms-cr@2", "ms-cr@4", "ms-cr@6", "ms-sr@fc"]
MULTI_STRATEGIES: tuple[str, ...] = constants.STRATEGIES[1:]
#: What each run has of its own, and what the study says for all.
OF_THE_RUN = ("name", "strategy", "sources", "seed", "export")
#: Settings that say something of each source by itself; a run is told of its own sources alone.
BY_SOURCE = (("training", "source_weights"), ("training", "class_weights"), ("augment", "leave_out"))
_NEEDS, _EXAMPLE = "'recipe' and 'design'", "recipe: mss.yaml"

Interaction = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]*:[a-z][a-z0-9_]*$",
        description="two factors such as strategy:sources (all of them), strategy:tag, sources:sources or "
        "bpm:tag",
    ),
]
Baseline = Annotated[
    str,
    Field(pattern=r"^(random|mfcc|musicnn|hear:\S+)$", description="random, mfcc, musicnn or hear:MODULE"),
]


class DesignSettings(Settings):
    """Which combinations of sources and strategy are trained, beside those that always are.

    Attributes:
        kind: `full` takes every combination, `random` and `d-optimal` so many of them, `file` those of a
            table.
        runs: Multi-source runs of a random or D-optimal design.
        sources: Factors: each is in a run or not. Kept in the order of `constants`, whatever that of the
            recipe, so that the same names give the same runs.
        strategies: Levels of the other factor; ordered likewise.
        min_sources: Of a multi-source run.
        interactions: Terms of the model that a D-optimal design is made for, beside main effects; the
            analysis has them too, whatever the design.
        starts: Random designs that the exchange starts from; the best outcome is taken.
        seed: Of the design and of the order of its runs.
        file: Table in the authors' form, columns s1 ... s8, arc, n; relative to the current folder.
    """

    kind: Literal["d-optimal", "random", "full", "file"] = "d-optimal"
    runs: Annotated[int, Field(ge=1, le=1235)] | None = None
    sources: Annotated[tuple[SourceName, ...], Field(strict=False, min_length=2)] = constants.SOURCES  # type: ignore[assignment]
    strategies: Annotated[tuple[MultiStrategy, ...], Field(strict=False, min_length=1)] = MULTI_STRATEGIES  # type: ignore[assignment]
    min_sources: Annotated[int, Field(ge=2)] = 2
    interactions: Annotated[tuple[Interaction, ...], Field(strict=False)] = ()
    starts: Annotated[int, Field(ge=1, le=1000)] = 10
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    file: PathText | None = None

    @field_validator("sources", "strategies")
    @classmethod
    def _in_one_order(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        strategies = [name for name in constants.STRATEGIES if name in names]
        return (
            (*strategies, *in_order(set(names) - set(strategies))) if len(set(names)) == len(names) else names
        )

    @model_validator(mode="after")
    def _possible(self) -> DesignSettings:
        for key, names in (("sources", self.sources), ("strategies", self.strategies)):
            if len(set(names)) != len(names):
                raise ImpossibleSetting("each name may stand once", f"design.{key}")
        if self.min_sources > len(self.sources):
            raise ImpossibleSetting(
                f"{self.min_sources} of {len(self.sources)} sources", "design.min_sources", "design.sources"
            )
        counted = self.kind in {"d-optimal", "random"}
        if counted and self.runs is None:
            raise ImpossibleSetting(f"a {self.kind} design needs a number of runs", "design.runs")
        if not counted and self.runs is not None:
            raise ImpossibleSetting(
                f"a design of kind '{self.kind}' has its own number; remove this key", "design.runs"
            )
        if (self.kind == "file") != (self.file is not None):
            need = "needs a file" if self.file is None else "reads no file; remove this key"
            raise ImpossibleSetting(f"a design of kind '{self.kind}' {need}", "design.file", "design.kind")
        for name in self.interactions:
            one, other = name.split(":")
            if one == other and one != "sources":
                raise ImpossibleSetting(f"'{name}' crosses a source with itself", "design.interactions")
            if one == "strategy" and len(self.strategies) < 2:
                raise ImpossibleSetting(
                    f"'{name}' needs two strategies or more", "design.interactions", "design.strategies"
                )
            for factor in (one, other):
                if factor not in {"strategy", "sources", *self.sources}:
                    raise ImpossibleSetting(
                        f"'{name}' names a source that the design has not", "design.interactions"
                    )
        return self


class WorkerSettings(Settings):
    """How many runs go on at once.

    Attributes:
        count: Processes; `auto` is one a GPU, or one for every `cores` cores.
        gpus: Numbers of the GPUs to use; `auto` takes all that are visible, an empty list none.
        cores: Cores of a process where there is no GPU; with GPUs, each process has an equal part of all.
    """

    count: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] = "auto"
    gpus: Literal["auto"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(strict=False)] = "auto"
    cores: Annotated[int, Field(ge=1, le=1024)] = 1


class StudyRecipe(Settings):
    """One study.

    Attributes:
        name: Of its folder, `studies/NAME`.
        recipe: Of all runs; a file, beside the study recipe or in the current folder, or the sections of one.
            Its name, strategy, sources, seed and export give way to those of each run.
        settings: Replace those of `recipe`.
        design: Which runs.
        evaluation: Tasks and probes.
        baselines: Representations that nothing was trained for; `random` is the first single-source network.
        seeds: Every run is made once with each.
        retries: How often a run that failed is tried again.
        export: Whether a SavedModel of each trained run is written.
        workers: How many runs at once.
        notes: Lines that the report begins with.
    """

    name: FileName
    recipe: PathText | dict[str, Any]
    settings: dict[str, Any] = Field(default_factory=dict)
    design: DesignSettings
    evaluation: EvaluationSettings = EvaluationSettings()
    baselines: Annotated[tuple[Baseline, ...], Field(strict=False)] = ("random", "mfcc")
    seeds: Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], Field(strict=False, min_length=1)] = (
        0,
    )
    retries: Annotated[int, Field(ge=0, le=100)] = 1
    export: bool = True
    workers: WorkerSettings = WorkerSettings()
    notes: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> StudyRecipe:
        for key in ("seeds", "baselines"):
            if len(set(getattr(self, key))) != len(getattr(self, key)):
                raise ImpossibleSetting("each may stand once", key)
        return self


class Study:
    """A study recipe, and what makes the recipes of its runs.

    Attributes:
        recipe: What the study recipe says.
    """

    def __init__(self, recipe: StudyRecipe, base: Draft) -> None:
        self.recipe = recipe
        self._base = base

    def run_recipe(self, name: str, strategy: str, sources: Sequence[str], seed: int) -> Recipe:
        """The recipe of one run; what the study says of sources that it has not is left out.

        Raises:
            RecipeError: Where it is wrong, in one line with its file and line.
        """
        values = self._base.values | {"name": name, "strategy": strategy, "sources": list(sources)}
        others = set(self.recipe.design.sources) - set(sources)
        for section, key in BY_SOURCE:
            said = values.get(section)
            if isinstance(said, dict) and isinstance(said.get(key), dict):
                kept = {source: value for source, value in said[key].items() if source not in others}
                values[section] = said | {key: kept}
        if "self" in others and isinstance(values.get("augment"), dict):  # what its pairs have alike
            values["augment"] = {key: value for key, value in values["augment"].items() if key != "alike"}
        return Draft(values | {"seed": seed}, self._base.origins, self._base.file).check(Recipe)

    @property
    def own_tasks(self) -> tuple[TableTask, ...]:
        """Tasks of the runs' recipe's section `tasks`."""
        design = self.recipe.design
        return self.run_recipe("tasks", "ss-r", design.sources[:1], self.recipe.seeds[0]).tasks

    def check_runs(self) -> None:
        """Find every fault that a run could be refused for.

        Raises:
            RecipeError: As `run_recipe`.
        """
        design, seed = self.recipe.design, self.recipe.seeds[0]
        for strategy in design.strategies:
            self.run_recipe("check", strategy, design.sources, seed)
        for source in design.sources:
            self.run_recipe("check", "ss-r", [source], seed)


def read_study(path: str | Path, overrides: Sequence[str] = ()) -> Study:
    """Read and check a study recipe and the recipe of its runs.

    Args:
        path: YAML file.
        overrides: `KEY=VALUE`, as for every recipe; `settings.training.epochs=2` reaches the runs.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    path = Path(path)
    draft = read_draft(path, _NEEDS, _EXAMPLE)
    for override in overrides:
        draft.override(override)
    draft.values.setdefault("name", path.stem)
    recipe = draft.check(StudyRecipe)
    study = Study(recipe, _base_of(path, draft, recipe))
    study.check_runs()
    return study


def _base_of(path: Path, draft: Draft, recipe: StudyRecipe) -> Draft:
    """The recipe of all runs with the study's settings laid over it; faults keep their file and line."""
    if isinstance(recipe.recipe, str):
        base = read_named(path, recipe.recipe)
        for name in OF_THE_RUN:
            base.values.pop(name, None)
    else:
        base = draft.section("recipe")
        _refuse_own(base, "recipe")
    if recipe.settings:
        over = draft.section("settings")
        _refuse_own(over, "settings")
        base.lay_over(over)
    return base


def _refuse_own(draft: Draft, section: str) -> None:
    """Refuse what each run has of its own."""
    for name in OF_THE_RUN:
        if name in draft.values:
            where = draft.origin([(name,)])
            raise RecipeError(f"{where}: {section}.{name}: is set by the study; remove this key")
