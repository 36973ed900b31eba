"""A tuning recipe as a YAML file, checked before any work: the base recipe and every value of the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kerasrep.errors import RecipeError
from kerasrep.experiments.tuning.settings import Downstream, HyperbandTuner, Parameter, TuningRecipe
from kerasrep.recipe import faults as recipe_faults
from kerasrep.recipe.base import ImpossibleSetting
from kerasrep.recipe.draft import Draft, read_draft, read_named
from kerasrep.recipe.schema import Recipe

#: Sections that are no hyper-parameters: what is learnt from, and names.
NOT_TUNED = ("name", "corpus", "tasks", "export")
#: With other sources or targets, one validation loss cannot be compared with another.
ONLY_DOWNSTREAM = ("sources", "targets")
#: What no tuning recipe can do without, and a line of one.
FOR_MESSAGES = ("'recipe', 'max_trials' and 'space'", "recipe: mss.yaml")


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
