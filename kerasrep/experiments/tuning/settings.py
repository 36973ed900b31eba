"""What a tuning recipe may say: a base recipe, the space, who searches it, and what counts as good."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from kerasrep.recipe.base import FileName, PathText, Settings

Value = str | bool | int | float | None | list[str]
Number = int | float


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
