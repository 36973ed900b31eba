"""What a recipe may say: immutable settings, one class a section, checked by pydantic.

Reading a recipe from a file, overrides and one-line errors are in `file`. Nothing here imports
TensorFlow, so that a recipe is refused in a fraction of a second.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kerasrep import constants
from kerasrep.recipe.augment import AugmentSettings
from kerasrep.recipe.base import (
    FileName,
    ImpossibleSetting,
    LayersText,
    LossName,
    PathText,
    Settings,
    SourceName,
    StrategyName,
    TargetKind,
    in_order,
    is_reserved,
)
from kerasrep.recipe.corpora import CorpusSettings, DemoCorpus, FolderCorpus
from kerasrep.recipe.network import AudioSettings, ContrastSettings, ModelSettings
from kerasrep.recipe.tasks import TableTasks
from kerasrep.storage.segment_vector import LAST


class TargetSettings(Settings):
    """How raw labels become soft targets.

    Attributes:
        size: Dimension of the simplex: topics of pLSA, components of the Gaussian mixture.
        sizes: Dimension for single sources, where it differs.
        kinds: `self: contrast` tells two crops of a track from all others of the batch; by default, `same`,
            `self` is the published one, whether two crops are of one track.
        plsa_starts: Random starts that EM is tried from for a few iterations; the likeliest goes on. One
            start alone ends in a poorer optimum now and then.
        plsa_iterations: Upper limit of EM iterations.
        plsa_tolerance: Relative gain of log-likelihood under which EM stops; 0 never stops early.
    """

    size: Annotated[int, Field(ge=2, le=1000)] = constants.TARGET_SIZE
    sizes: dict[SourceName, Annotated[int, Field(ge=2, le=1000)]] = Field(default_factory=dict)
    kinds: dict[Literal["self"], Literal["same", "contrast"]] = Field(default_factory=dict)
    plsa_starts: Annotated[int, Field(ge=1, le=100)] = 5
    plsa_iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    plsa_tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-6

    @model_validator(mode="after")
    def _self_has_no_size(self) -> TargetSettings:
        if "self" in self.sizes:
            raise ImpossibleSetting("'self' always has 2 classes; remove this key", "targets.sizes.self")
        return self

    def size_of(self, source: str) -> int:
        """Upper limit of the simplex dimension of `source`."""
        return constants.SELF_CLASSES if source == "self" else self.sizes.get(source, self.size)


class BatchSettings(Settings):
    """One step's examples.

    Attributes:
        size: Segments a step over all replicas; pairs for `self`.
        crops_per_visit: Crops taken each time a track is read.
    """

    size: Annotated[int, Field(ge=2, le=65_536)] = 128
    crops_per_visit: Annotated[int, Field(ge=1, le=64)] = 2


class TrainingSettings(Settings):
    """The optimisation.

    Attributes:
        epochs: One epoch is floor(training tracks / batch) steps over all sources together.
        optimizer: `adam`, or `adamw`, whose decay is not in the gradient (Loshchilov and Hutter 2019).
        learning_rate: Of the optimizer, at the start.
        weight_decay: Of `adamw`: every trainable value loses this part of it a step, times the rate.
        warmup_steps: Steps over which the rate rises from zero.
        clip_norm: A longer gradient of a step is shortened to this length; 0 never does.
        trunk_rate: What the rate is multiplied with for the trunk that `model.start` brought, heads apart;
            less than the least moves no weight in float32: `model.freeze` keeps blocks as they are.
        average: Weights are averaged over the steps with this decay, and the average is what is validated and
            exported, such as 0.999; 0 keeps the weights themselves.
        source_weights: Source -> what its loss is multiplied with in the gradient; 1 by default.
        class_weights: Source of classes -> `balanced`: all classes count alike, in training and validation,
            however many tracks they have.
        decay: `constant`, or `cosine` down to zero at the last step.
        schedule: `alternating` draws one source a step; `joint` uses all sources in each step.
        steps_per_call: Steps between two looks at their losses and at a wish to stop.
        precision: Of the trunk; `auto` is bfloat16 on GPUs that have it, else float32.
        xla: Compile the step; `auto` does so on GPUs only.
        deterministic: TensorFlow's determinism; `auto` turns it on where nothing is compiled, as on CPUs.
        validation_crops: Fixed crops of each validation track; an even number, as they are paired.
        keep: Which state is exported: `best`, that of the lowest mean validation loss, or the `last` one, as
            where losses of different kinds have no meaningful mean.
        whitening: So many directions of each layer, those in which segments of a training track differ most
            from each other, are shrunk in what is exported, whose values are standardised; 0 leaves it as the
            network gives it.
        validate_every_epochs: How often the held-out tracks are evaluated; always after the last epoch.
        checkpoint_every_epochs: How often the last state is saved.
        damaged_shards: What becomes of a shard that is not as it was written, by its checksum: `refuse` ends
            the run before its first step, `skip` trains without the shard's tracks, `unchecked` reads none.
        tensorboard: `full`, or `scalars` for losses, the like and the recipe alone, without graph, pictures,
            sounds, histograms, projector and a row in HParams: what many short runs have no use for.
    """

    epochs: Annotated[int, Field(ge=1, le=1_000_000)] = 200
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(ge=1e-9, le=10)] = 2.5e-4
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Annotated[float, Field(ge=0)] = 0.0
    trunk_rate: Annotated[float, Field(ge=1e-6, le=10)] = 1.0
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    source_weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(default_factory=dict)
    class_weights: dict[str, Literal["balanced"]] = Field(default_factory=dict)
    decay: Literal["constant", "cosine"] = "constant"
    schedule: Literal["alternating", "joint"] = "alternating"
    steps_per_call: Literal["auto"] | Annotated[int, Field(ge=1, le=10_000)] = "auto"
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"
    xla: Literal["auto"] | bool = "auto"
    deterministic: Literal["auto"] | bool = "auto"
    validation_crops: Annotated[int, Field(ge=2, le=100, multiple_of=2)] = 2
    keep: Literal["best", "last"] = "best"
    whitening: Annotated[int, Field(ge=0, le=1024)] = 0
    validate_every_epochs: Annotated[int, Field(ge=1)] = 1
    checkpoint_every_epochs: Annotated[int, Field(ge=1)] = 1
    damaged_shards: Literal["refuse", "skip", "unchecked"] = "refuse"
    tensorboard: Literal["full", "scalars"] = "full"


class DistributionSettings(Settings):
    """Devices; `distribution: multi_worker` alone is short for its name.

    Attributes:
        name: `mirrored` trains in one process, on the devices of one machine; `multi_worker` in several
            processes, on one machine or many, that the environment's `TF_CONFIG` names.
        devices: Replicas of a process; `auto` takes every visible GPU, or the CPU. A number above 1 on a
            machine without a GPU makes that many logical CPU devices (`mirrored` only).
        batch_norm: `averaged` averages the moving statistics of the replicas (fast); `synchronised`
            computes batch statistics over all replicas (one replica of batch 2B equals two of B).
        connect_seconds: How long a worker waits until it reaches all others, `multi_worker` only.
        prepare_seconds: How long workers wait for the chief to prepare the corpus, or to export.
    """

    name: Literal["mirrored", "multi_worker"] = "mirrored"
    devices: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = "auto"
    batch_norm: Literal["averaged", "synchronised"] = "averaged"
    connect_seconds: Annotated[float, Field(gt=0, le=86_400)] = 300
    prepare_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] = 86_400


class ExportSettings(Settings):
    """Where the SavedModel goes: `directory`/`name`/VERSION.

    Attributes:
        directory: Relative to the current folder.
        name: By default the recipe's name.
        weights: Type that kernels are stored in. `float16` is half as large; the network runs in float32 all
            the same, its vectors differ by less than a thousandth of their length, whitened ones a hundredth.
        default_layers: What an embedding is made of where nobody says otherwise: `last`, `all`, or some
            layers, as `--layers` takes them.
    """

    directory: PathText = "exported"
    name: FileName | None = None
    weights: Literal["float32", "float16"] = "float32"
    default_layers: LayersText = LAST


class Recipe(Settings):
    """One experiment.

    Attributes:
        name: Of the run and of its export.
        strategy: How much of the network the sources share.
        sources: What is learnt; two or more, except for `ss-r`.
        tasks: Downstream tasks of one's own, which `kerasrep-evaluate` can read.
        seed: Draws weights, crops and the order of tracks.
    """

    name: FileName
    strategy: StrategyName
    sources: Annotated[tuple[SourceName, ...], Field(strict=False, min_length=1)]
    corpus: CorpusSettings = DemoCorpus()
    targets: TargetSettings = TargetSettings()
    contrast: ContrastSettings = ContrastSettings()
    audio: AudioSettings = AudioSettings()
    model: ModelSettings = ModelSettings()
    batches: BatchSettings = BatchSettings()
    augment: AugmentSettings = AugmentSettings()
    training: TrainingSettings = TrainingSettings()
    distribution: DistributionSettings = DistributionSettings()
    export: ExportSettings = ExportSettings()
    tasks: TableTasks = ()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @field_validator("corpus", mode="before")
    @classmethod
    def _demo_by_default(cls, corpus: Any) -> Any:
        """Let `corpus: {tracks: 60}` mean the embedded corpus."""
        return {"name": "demo", **corpus} if isinstance(corpus, dict) else corpus

    @field_validator("distribution", mode="before")
    @classmethod
    def _name_alone(cls, distribution: Any) -> Any:
        """Let `distribution: multi_worker` name it."""
        return {"name": distribution} if isinstance(distribution, str) else distribution

    @model_validator(mode="after")
    def _possible(self) -> Recipe:
        if len(set(self.sources)) != len(self.sources):
            raise ImpossibleSetting("each source may stand once", "sources")
        self._check_names()
        if self.strategy == "ss-r" and len(self.sources) != 1:
            raise ImpossibleSetting(
                f"strategy 'ss-r' takes one source, not {len(self.sources)}", "sources", "strategy"
            )
        if self.strategy != "ss-r" and len(self.sources) < 2:
            raise ImpossibleSetting(
                f"strategy '{self.strategy}' takes two sources or more; with one, use 'ss-r'",
                "sources",
                "strategy",
            )
        self._check_what_is_said_of_sources()
        if self.model.start is None:
            for key, wanted in (
                ("model.freeze", self.model.freeze),
                ("training.trunk_rate", self.training.trunk_rate != 1.0),
            ):
                if wanted:
                    raise ImpossibleSetting("needs a trunk to begin with, model.start", key, "model.start")
        if self.training.weight_decay and self.training.optimizer == "adam":
            raise ImpossibleSetting(
                "is for training.optimizer 'adamw'; 'adam' has model.l2",
                "training.weight_decay",
                "training.optimizer",
            )
        self.check_replicas(self.distribution.devices)
        return self

    def _check_what_is_said_of_sources(self) -> None:
        for key, named in (
            ("training.source_weights", self.training.source_weights),
            ("training.class_weights", self.training.class_weights),
            ("augment.leave_out", self.augment.leave_out),
        ):
            for source in named:
                if source not in self.sources:
                    raise ImpossibleSetting(
                        f"'{source}' is not a source of this recipe; it has {', '.join(self.sources)}",
                        f"{key}.{source}",
                        "sources",
                    )
        for name in self.augment.alike:
            if "self" not in self.sources:
                raise ImpossibleSetting(
                    "needs the source 'self', whose pairs it is about", "augment.alike", "sources"
                )
            if name not in self.augment.names():
                raise ImpossibleSetting(
                    f"'{name}' is off; turn it on, or remove it here", "augment.alike", f"augment.{name}"
                )
        if self.contrast.same_group == "ignored" and not getattr(self.corpus, "groups", None):
            raise ImpossibleSetting("needs groups of tracks, corpus.groups", "contrast.same_group", "corpus")
        for source in self.training.class_weights:
            if self.kind_of(source) != "classes":
                raise ImpossibleSetting(
                    f"'{source}' has no classes but {self.kind_of(source)}",
                    f"training.class_weights.{source}",
                    f"corpus.tables.{source}.target",
                )
        for source in self.targets.sizes:
            if self.kind_of(source) not in ("topics", "mixture"):
                raise ImpossibleSetting(
                    f"'{source}' is learnt as {self.kind_of(source)}, whose size its labels say; "
                    "remove this key",
                    f"targets.sizes.{source}",
                    f"corpus.tables.{source}.target",
                )

    def _check_names(self) -> None:
        tables = self.corpus.tables if isinstance(self.corpus, FolderCorpus) else {}
        keys = {source: f"targets.sizes.{source}" for source in self.targets.sizes}
        keys |= {source: f"corpus.tables.{source}" for source in tables}
        keys |= {source: f"sources[{place}]" for place, source in enumerate(self.sources)}
        for source, key in keys.items():
            if is_reserved(source):
                raise ImpossibleSetting(f"'{source}' means something else here; take another name", key)
            known = in_order([*constants.SOURCES, *tables])
            if source not in known:
                near = difflib.get_close_matches(source, known, n=1)
                hint = f"did you mean '{near[0]}'? " if near else ""
                raise ImpossibleSetting(
                    f"'{source}' has no table in corpus.tables; {hint}known are {', '.join(known)}", key
                )

    def check_replicas(self, replicas: int | Literal["auto"]) -> None:
        """Raise ImpossibleSetting, a ValueError, where `replicas` cannot share a batch."""
        size, crops = self.batches.size, self.batches.crops_per_visit
        n = 1 if replicas == "auto" else replicas
        if size % n:
            raise ImpossibleSetting(
                f"{size} cannot be divided among {n} replicas", "batches.size", "distribution.devices"
            )
        if (size // n) % crops:
            raise ImpossibleSetting(
                f"{crops} must divide the batch of a replica, {size // n}",
                "batches.crops_per_visit",
                "batches.size",
                "distribution.devices",
            )
        if (size // n) % self.batch_unit:
            wanted = "an even batch" if self.batch_unit == 2 else f"a batch divisible by {self.batch_unit}"
            raise ImpossibleSetting(
                f"'self' needs {wanted} a replica, for its pairs, not {size // n}",
                "batches.size",
                "distribution.devices",
                "sources",
            )

    @property
    def batch_unit(self) -> int:
        """What a replica's batch is a multiple of: `self` needs pairs, of which joint batches hold half."""
        if "self" not in self.sources:
            return 1
        return 4 if self.training.schedule == "joint" else 2

    def kind_of(self, source: str) -> TargetKind:
        """What the labels of a source become."""
        if source == "self":
            return self.targets.kinds.get("self", "same")
        stated: TargetKind | None = None
        if isinstance(self.corpus, FolderCorpus) and source in self.corpus.tables:
            stated = self.corpus.table(source).target
        return stated or ("mixture" if source in constants.VALUE_SOURCES else "topics")

    def loss_of(self, source: str) -> LossName:
        """What a source is learnt by."""
        losses: dict[TargetKind, LossName] = {
            "labels": "sigmoid",
            "number": "squared",
            "vector": "cosine",
            "contrast": "contrast",
        }
        if self.kind_of(source) == "vector" and isinstance(self.corpus, FolderCorpus):
            return self.corpus.table(source).loss or "cosine"
        return losses.get(self.kind_of(source), "divergence")

    @property
    def export_name(self) -> str:
        """Folder of the export under `export.directory`."""
        return self.export.name or self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON or YAML."""
        return self.model_dump(mode="json", by_alias=True)

    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any setting."""
        return fingerprint(self.as_dict())


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], may_differ: Sequence[tuple[str, ...]] = ()
) -> Iterator[tuple[str, Any, Any]]:
    """Settings that are not the same in two recipes, in alphabetical order.

    Args:
        old: Nested plain values, as `Recipe.as_dict` gives them.
        new: The same.
        may_differ: Settings, or whole sections, that are passed over.

    Yields:
        The setting such as `training.epochs`, its old value and its new one; `None` where there is none.
    """
    before, now = _flat(old), _flat(new)
    for key in sorted({*before, *now}):
        if any(key[: len(free)] == free for free in may_differ):
            continue
        if before.get(key) != now.get(key):
            yield ".".join(key), before.get(key), now.get(key)


def _flat(value: Any, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {k: v for name, inner in value.items() for k, v in _flat(inner, (*prefix, name)).items()}


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits of a JSON value, the same in every process and on every machine."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
