"""What a study or a tuning, and what makes one of its runs, agree on: jobs, and their files.

STUDY/study.yaml        the study recipe as it was run
STUDY/design.csv        the multi-source runs, in the authors' form
STUDY/runs/RUN/         one folder a run:
    job.json            what is to be done
    recipe.yaml         what is trained; only where something is
    training/           the run directory of kerasrep-train
    export/NAME/1/      the SavedModel
    evaluation/         results of all tasks
    done/STAGE.json     one a finished stage, with the key of what it depends on
    scores.json         the outcome, written last
    failures.jsonl      one line a failed attempt
    log.txt             what the process printed
    log.jsonl           what happened, as JSON lines
STUDY/report.html, plots/, tables/

A trial of a tuning has the same files, but for those that `tuning.directory` names.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from kerasrep.errors import DataError
from kerasrep.recipe.base import Fraction, PathText, Settings
from kerasrep.recipe.file import write_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.recipe.tasks import TableTasks
from kerasrep.storage.run_directory import LOG_NAME, Folder, Inside, read_json, read_object, write_json

#: Where studies go unless told otherwise, under the current folder.
STUDIES = Path("studies")

STAGES = ("train", "export", "embed", "evaluate")
JobKind = Literal["train", "validate", "concatenate", "baseline", "check"]


class EvaluationSettings(Settings):
    """How representations are judged.

    Attributes:
        tasks: Names, or demo, paper, all; those of the base recipe's section `tasks` as well.
        data: Folder of the data sets; not needed for demo tasks.
        probes: Only these; `None` takes all. The first of each kind of task is the score.
        folds: Folds or repeats.
        seed: Of folds and probes.
        max_missing: Part of a task's items that may lack usable audio.
    """

    tasks: Annotated[tuple[PathText, ...], Field(strict=False, min_length=1)] = ("demo",)
    data: PathText | None = None
    probes: Annotated[tuple[PathText, ...], Field(strict=False, min_length=1)] | None = None
    folds: Annotated[int, Field(ge=2, le=1000)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    max_missing: Fraction = 0.02


class Job(Settings):
    """One run of a study, or one trial of a tuning.

    Attributes:
        name: Of its folder.
        kind: `train` a network; train and only `validate` it; `concatenate` the embeddings of trained
            single-source networks; embed with a `baseline`; or `check` the tasks and embed nothing.
        representation: Of a baseline, as `kerasrep-evaluate` takes it.
        parts: Runs that are concatenated, in the order of the sources; or the one that `random` refers to.
        export: Whether a SavedModel is written.
        evaluation: Tasks and probes.
        own_tasks: Tasks from tables, which `evaluation` may name.
        key: Changes with everything that the outcome depends on, trained parts included.
    """

    name: str
    kind: JobKind
    representation: str | None = None
    parts: Annotated[tuple[str, ...], Field(strict=False)] = ()
    export: bool = False
    evaluation: EvaluationSettings = EvaluationSettings()
    own_tasks: TableTasks = ()
    key: str = ""


class RunFolder(Folder):
    """The files of one run of a study."""

    #: JSON: what is to be done.
    job = Inside("job.json")
    #: YAML: what is trained.
    recipe = Inside("recipe.yaml")
    #: Run directory of the training.
    training = Inside("training")
    #: Folder of the export.
    exports = Inside("export")
    #: Folder of the results of all tasks.
    evaluation = Inside("evaluation")
    #: JSON: the outcome.
    scores = Inside("scores.json")
    #: One line of JSON a failed attempt.
    failures = Inside("failures.jsonl")
    #: What the process printed, attempt after attempt.
    log = Inside("log.txt")
    #: JSON lines: what happened, attempt after attempt (see `run_log`).
    events = Inside(LOG_NAME)

    @property
    def checked(self) -> Path:
        """Folder of the study, while it runs, in which its runs note that shards are sound."""
        return self.root.parent.parent / ".checked"

    def give(self, job: Job, recipe: Recipe | None = None) -> None:
        """Write a job, and what is trained, as far as they are not there."""
        value = job.model_dump(mode="json")
        before = None
        with contextlib.suppress(DataError):
            before = read_json(self.job)
        if before != value:
            write_json(self.job, value)
        if recipe is not None and not self.recipe.is_file():
            write_recipe(self.recipe, recipe)

    def sibling(self, name: str) -> RunFolder:
        """Another run of the same study."""
        return RunFolder(self.root.parent / name)

    def done(self, stage: str, key: str) -> bool:
        """Whether a stage was finished with the same key."""
        return has_key(self.root / "done" / f"{stage}.json", key)

    def mark(self, stage: str, key: str, seconds: float) -> None:
        """Say that a stage is finished."""
        write_json(self.root / "done" / f"{stage}.json", {"key": key, "seconds": round(seconds, 2)})

    def seconds(self) -> dict[str, float]:
        """Stage -> how long it took, of those that are finished."""
        found = {}
        for stage in STAGES:
            path = self.root / "done" / f"{stage}.json"
            if path.is_file():
                found[stage] = float(read_object(path, seconds=(int, float))["seconds"])
        return found


class StudyFolder(Folder):
    """The files of a study."""

    #: YAML: the study recipe as it was run.
    recipe = Inside("study.yaml")
    #: CSV: the multi-source runs.
    design = Inside("design.csv")
    #: One folder a run.
    runs = Inside("runs")
    #: HTML: the report.
    report = Inside("report.html")

    def run(self, name: str) -> RunFolder:
        """The folder of a run."""
        return RunFolder(self.runs / name)


def has_key(path: Path, key: str) -> bool:
    """Whether a JSON file is there that was made under a key; a damaged one was not."""
    with contextlib.suppress(DataError):
        return path.is_file() and bool(read_object(path).get("key") == key)
    return False


def read_job(path: Path) -> Job:
    """Read what a study wrote.

    Raises:
        DataError: Where it is missing or malformed.
    """
    value = read_json(path)
    try:
        return Job.model_validate(value)
    except ValidationError as error:
        details = error.errors()[0]
        key = ".".join(map(str, details["loc"])) or "file"
        raise DataError(f"{path}: {key}: {details['msg']}; start the study again") from error
