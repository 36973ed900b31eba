"""What a tuning recipe may say: a base recipe, the space, who searches it, and what counts as good.

It is a YAML file, checked before any work: the base recipe and every value of the space.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from kerasrep.errors import RecipeError
from kerasrep.recipe import faults as recipe_faults
from kerasrep.recipe.base import FileName, ImpossibleSetting, PathText, Settings
from kerasrep.recipe.file import Draft, read_draft, read_named
from kerasrep.recipe.schema import Recipe

Value = str | bool | int | float | None | list[str]
Number = int | float
#: Sections that are no hyper-parameters: what is learnt from, and names.
NOT_TUNED = ("name", "corpus", "tasks", "export")
#: With other sources or targets, one validation loss cannot be compared with another.
ONLY_DOWNSTREAM = ("sources", "targets")
#: What no tuning recipe can do without, and a line of one.
FOR_MESSAGES = ("'recipe', 'max_trials' and 'space'", "recipe: mss.yaml")


class Parameter(Settings):
    """The values that one setting may take: either `choice`, or `min` and `max`.

    Attributes:
        choice: These values and no others; whole numbers beside fractions become fractions.
        min: The lowest value of a range.
        max: The highest.
        step: Distance of neighbouring values in a range; with `log`, their ratio.
        log: Draw the logarithm evenly.
    """

    choice: Annotated[tuple[Value, ...], Field(strict=False, min_length=1)] | None = None
    min: Number | None = None
    max: Number | None = None
    step: Number | None = None
    log: bool = False

    @field_validator("choice")
    @classmethod
    def _one_kind_of_number(cls, value: tuple[Value, ...] | None) -> tuple[Value, ...] | None:
        """Make all numbers fractions where one is: `[0, 0.1]` is one kind of value."""
        if value is None or not any(isinstance(choice, float) for choice in value):
            return value
        return tuple(float(choice) if type(choice) is int else choice for choice in value)


class RandomTuner(Settings):
    """Draws every trial at random, no setting twice."""

    name: Literal["random"] = "random"


class BayesianTuner(Settings):
    """Fits a Gaussian process to the scores so far and tries where they may be best.

    Attributes:
        initial_points: Trials that are drawn at random first; by default a third of all, at least 3.
        beta: How much the uncertain is preferred to the good.
    """

    name: Literal["bayesian"] = "bayesian"
    initial_points: Annotated[int, Field(ge=1, le=100_000)] | None = None
    beta: Annotated[float, Field(ge=0, le=100)] = 2.6


class HyperbandTuner(Settings):
    """Trains many trials for few epochs and goes on with the best; its number of trials follows from this.

    Attributes:
        factor: One trial of so many goes on, for so many times the epochs.
        iterations: How often the whole is repeated.
    """

    name: Literal["hyperband"] = "hyperband"
    factor: Annotated[int, Field(ge=2, le=10)] = 3
    iterations: Annotated[int, Field(ge=1, le=1000)] = 1


class ValidationLoss(Settings):
    """Mean over sources of validation loss relative to the mean-prediction baseline; lower is better."""

    name: Literal["validation_loss"] = "validation_loss"


class Downstream(Settings):
    """Mean score of a probe on downstream tasks; more is better.

    Attributes:
        tasks: Names of tasks, those of the base recipe's section `tasks` included.
        probe: One probe for all tasks; by default each kind's headline probe.
        data: Folder of the data sets; demo tasks need none.
        folds: Folds, or repeats.
    """

    name: Literal["downstream"] = "downstream"
    tasks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)]
    probe: str | None = None
    data: PathText | None = None
    folds: Annotated[int, Field(ge=2, le=1000)] = 5


TunerSettings = Annotated[RandomTuner | BayesianTuner | HyperbandTuner, Field(discriminator="name")]
Objective = Annotated[ValidationLoss | Downstream, Field(discriminator="name")]


class TuningRecipe(Settings):
    """One search.

    Attributes:
        name: Of its folder, `runs/NAME`.
        recipe: The base recipe: a file (relative to this one, or else to the current folder) or its sections.
        settings: Sections of a recipe that replace the base's, in every trial and in the best recipe.
        tuner: Who chooses the trials: `random`, `bayesian` or `hyperband`, or a mapping with its options.
        max_trials: Trials in all, those that fail included; `hyperband` needs none.
        epochs: Of a trial, the longest of `hyperband`; by default the base recipe's. The best recipe keeps
            the base's.
        objective: `validation_loss`, or a mapping with `name: downstream` and its `tasks`.
        space: Dotted key of a recipe -> the values that it may take.
        seed: Draws the trials; the recipe's own seed is another.
    """

    name: FileName
    recipe: PathText | dict[str, Any]
    settings: dict[str, Any] = Field(default_factory=dict)
    tuner: TunerSettings = RandomTuner()
    max_trials: Annotated[int, Field(ge=1, le=100_000)] | None = None
    epochs: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    objective: Objective = ValidationLoss()
    space: Annotated[dict[str, Parameter], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("tuner", "objective", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        """Let `tuner: bayesian` mean `tuner: {name: bayesian}`."""
        return {"name": value} if isinstance(value, str) else value


@dataclass(frozen=True)
class Tuning:
    """A tuning recipe with its base.

    Attributes:
        settings: As written.
        base: The base recipe with `settings.settings` laid over it; named as the tuning.
    """

    settings: TuningRecipe
    base: Recipe

    @property
    def space(self) -> Mapping[str, Parameter]:
        """Dotted key -> the values that it may take."""
        return self.settings.space

    @property
    def epochs(self) -> int:
        """Epochs of a trial; of `hyperband` the most."""
        return self.settings.epochs or self.base.training.epochs

    @property
    def more_is_better(self) -> bool:
        """Whether the highest score is the best."""
        return isinstance(self.settings.objective, Downstream)

    @property
    def score_text(self) -> str:
        """What a score is, for people."""
        objective = self.settings.objective
        if isinstance(objective, Downstream):
            return f"mean score on {', '.join(objective.tasks)}"
        return "validation loss / mean-prediction baseline, mean over sources"

    def as_dict(self) -> dict[str, Any]:
        """Plain values that say everything, the base recipe included."""
        inline = {"recipe": self.base.as_dict(), "settings": {}}
        return self.settings.model_dump(mode="json", exclude_none=True) | inline


def read_tuning(path: str | Path, overrides: Sequence[str] = ()) -> Tuning:
    """Read and check a tuning recipe.

    Args:
        path: YAML file.
        overrides: `KEY=VALUE`, such as `max_trials=3` or `settings.training.decay=constant`.

    Raises:
        RecipeError: One line: what is wrong, where, and what is allowed.
    """
    path = Path(path)
    draft = read_draft(path, *FOR_MESSAGES)
    for override in overrides:
        draft.override(override)
    draft.values.setdefault("name", path.stem)
    settings = draft.check(TuningRecipe)
    base = _base(draft, settings, path)
    _check_sizes(draft, settings)
    _check_objective(draft, settings, base)
    for key, parameter in settings.space.items():
        _check_parameter(draft, key, parameter, base)
    return Tuning(settings, base)


def with_values(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some settings replaced.

    Args:
        base: The recipe.
        values: Dotted key -> value.

    Raises:
        RecipeError: Where the outcome is no possible recipe; says why.
    """
    draft = _plain_draft(base, "")
    for key, value in values.items():
        draft.put(tuple(key.split(".")), value, "")
    try:
        return Recipe.model_validate(draft.values)
    except ValidationError as error:
        raise RecipeError(recipe_faults.most_useful(error).text) from None


def _base(draft: Draft, settings: TuningRecipe, path: Path) -> Recipe:
    named = settings.recipe
    base = read_named(path, named) if isinstance(named, str) else draft.section("recipe")
    if settings.settings:
        base.lay_over(draft.section("settings"))
    base.values["name"] = settings.name
    return base.check(Recipe)


def _check_sizes(draft: Draft, settings: TuningRecipe) -> None:
    """Refuse a search without an end, and epochs that are said twice."""
    hyperband = isinstance(settings.tuner, HyperbandTuner)
    if settings.max_trials is None and not hyperband:
        raise RecipeError(
            f"{draft.file}: max_trials: is missing; tuner '{settings.tuner.name}' needs to know when to end"
        )
    if "training.epochs" in settings.space and (hyperband or settings.epochs is not None):
        who = "tuner 'hyperband' chooses them" if hyperband else "'epochs' fixes them"
        where = draft.origin([("space", "training.epochs")])
        raise RecipeError(f"{where}: space.training.epochs: {who}; remove one of the two")


def _check_objective(draft: Draft, settings: TuningRecipe, base: Recipe) -> None:
    """Refuse tasks, probes and data that are not there, and scores that cannot be compared."""
    if isinstance(settings.objective, Downstream):
        _check_downstream(draft, settings.objective, base)
        return
    for key in settings.space:
        if key.partition(".")[0] in ONLY_DOWNSTREAM:
            raise RecipeError(
                f"{draft.origin([('space', key)])}: space.{key}: validation losses of different sources or "
                "targets cannot be compared; use objective 'downstream'"
            )


def _check_downstream(draft: Draft, objective: Downstream, base: Recipe) -> None:
    """Refuse what `kerasrep-evaluate` would refuse only after the first trial was trained."""
    from kerasrep.evaluation.options import check_probes, has_probe
    from kerasrep.evaluation.registry import TASKS

    own = {task.name: task.kind for task in base.tasks}
    kinds = {name: task.kind for name, task in TASKS.items()} | own
    where = f"{draft.origin([('objective', 'tasks')])}: objective.tasks"
    for name in objective.tasks:
        if name not in kinds:
            near = recipe_faults.nearest(name, tuple(kinds))
            hint = f"did you mean '{near}'? " if near else ""
            raise RecipeError(f"{where}: no task is called {name[:60]!r}; {hint}there are {', '.join(kinds)}")
    if objective.probe is not None:
        at = f"{draft.origin([('objective', 'probe')])}: objective.probe"
        check_probes((objective.probe,), at)
        for name in objective.tasks:
            if not has_probe((objective.probe,), kinds[name]):
                raise RecipeError(f"{at}: '{objective.probe}' is not for task '{name}', a {kinds[name]}")
    folders = {name: task.folder for name, task in TASKS.items() if name not in own}
    _check_data(draft, objective, {name: folders[name] for name in objective.tasks if name in folders})


def _check_data(draft: Draft, objective: Downstream, folders: Mapping[str, str]) -> None:
    """Refuse data that are not there.

    Args:
        draft: Says where things were written.
        objective: With its folder of data sets.
        folders: Task that is no recipe's own -> its folder below that of the data sets.
    """
    where = draft.origin([("objective", "data"), ("objective", "tasks")])
    if objective.data is not None and not Path(objective.data).is_dir():
        raise RecipeError(f"{where}: objective.data: there is no folder {objective.data}")
    for name, folder in folders.items():
        if name.startswith("demo_"):
            continue
        if objective.data is None:
            where = draft.origin([("objective", "tasks")])
            raise RecipeError(
                f"{where}: objective.tasks: task '{name}' needs objective.data, the folder of data sets"
            )
        needed = Path(objective.data) / folder
        if not needed.is_dir():
            raise RecipeError(f"{where}: objective.data: task '{name}' needs {needed}, which is not a folder")


def _check_parameter(draft: Draft, key: str, parameter: Parameter, base: Recipe) -> None:
    """Refuse a key that no recipe has, and values that it can never take.

    Settings that are impossible only together with others are left to the trials.
    """
    where = draft.origin([("space", key)])
    if key.partition(".")[0] in NOT_TUNED:
        raise RecipeError(f"{where}: space.{key}: cannot be tuned; it is not a hyper-parameter")
    candidates = _range(where, key, parameter) if parameter.choice is None else parameter.choice
    if parameter.choice is not None and {"min", "max", "step", "log"} & parameter.model_fields_set:
        raise RecipeError(f"{where}: space.{key}: give either 'choice', or 'min' and 'max'")
    for value in candidates:
        trial = _plain_draft(base, where)
        trial.put(tuple(key.split(".")), value, where)
        try:
            Recipe.model_validate(trial.values)
        except ValidationError as error:
            if not all(
                isinstance(found.get("ctx", {}).get("error"), ImpossibleSetting) for found in error.errors()
            ):
                raise RecipeError(f"{where}: space.{recipe_faults.most_useful(error).text}") from None
    if parameter.choice is None and not takes_fractions(key) and not takes_whole_numbers(key):
        raise RecipeError(f"{where}: space.{key}: takes no range of numbers; give 'choice'")


def takes_fractions(key: str) -> bool:
    """Whether a setting is any number."""
    return "number" in recipe_faults.kinds(tuple(key.split(".")))


def takes_whole_numbers(key: str) -> bool:
    """Whether a setting is a whole number."""
    return "integer" in recipe_faults.kinds(tuple(key.split(".")))


def _range(where: str, key: str, parameter: Parameter) -> tuple[Any, ...]:
    """The ends of a range that can be drawn from."""
    low, high, step = parameter.min, parameter.max, parameter.step
    fault = None
    if low is None or high is None:
        fault = "give either 'choice', or 'min' and 'max'"
    elif low >= high:
        fault = f"'min' must be below 'max', and {low} is not below {high}"
    elif parameter.log and low <= 0:
        fault = f"'min' must be above 0 with 'log', not {low}"
    elif step is not None and step <= (1 if parameter.log else 0):
        fault = f"'step' must be above {'1 with log, as it is a ratio' if parameter.log else 0}, not {step}"
    elif takes_whole_numbers(key) and not takes_fractions(key) and isinstance(step, float):
        fault = f"'step' must be a whole number, not {step}"
    if fault is not None:
        raise RecipeError(f"{where}: space.{key}: {fault}")
    return low, high


def _plain_draft(recipe: Recipe, file: str) -> Draft:
    return Draft(recipe.as_dict(), {}, file)
