"""What a recipe says of the network: its front end, its trunk, and how `self` is learnt by contrast."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kerasrep import constants
from kerasrep.recipe.base import BlockName, Fraction, ImpossibleSetting, PathText, Settings, TrunkName


class AudioSettings(Settings):
    """Rates, lengths and mel geometry; defaults are the paper's.

    Attributes:
        sample_rate_hz: All audio is resampled to this rate.
        segment_seconds: Length of what the network embeds at once.
        fft_samples: Length of an STFT frame; even.
        hop_samples: From one STFT frame to the next.
        n_mels: Mel bands.
        reference: Of the decibels: `absolute`, full scale, as published; or `segment`, its loudest value, so
            that level makes no difference.
        decoder: `soundfile` (with ffmpeg's libraries for what it does not read), or `tensorflow-io` for files
            that soundfile reads to their end.
    """

    sample_rate_hz: Annotated[int, Field(ge=4000, le=192_000)] = constants.SAMPLE_RATE_HZ
    segment_seconds: Annotated[float, Field(gt=0, le=60)] = constants.SEGMENT_SECONDS
    fft_samples: Annotated[int, Field(ge=64, le=16_384)] = constants.FFT_SAMPLES
    hop_samples: Annotated[int, Field(ge=16, le=16_384)] = constants.HOP_SAMPLES
    n_mels: Annotated[int, Field(ge=32, le=512)] = constants.N_MELS
    reference: Literal["absolute", "segment"] = "absolute"
    decoder: Literal["soundfile", "tensorflow-io"] = "soundfile"

    @model_validator(mode="after")
    def _long_enough(self) -> AudioSettings:
        if self.fft_samples % 2:
            raise ImpossibleSetting(f"{self.fft_samples} is odd; it must be even", "audio.fft_samples")
        if self.segment_frames < 64:
            raise ImpossibleSetting(
                f"a segment has {self.segment_frames} frames, the network needs 64; "
                "raise segment_seconds or lower hop_samples",
                "audio.segment_seconds",
                "audio.hop_samples",
                "audio.sample_rate_hz",
            )
        return self

    @property
    def segment_samples(self) -> int:
        """Samples a channel in one segment."""
        return int(self.segment_seconds * self.sample_rate_hz)

    @property
    def segment_frames(self) -> int:
        """Centred STFT frames in one segment."""
        return 1 + self.segment_samples // self.hop_samples


class ModelSettings(Settings):
    """The network.

    Attributes:
        start: Run directory, export, `.keras` file or `starter`, whose trunk training begins with; without
            it, with random weights.
        freeze: Blocks of that trunk that stay as they are, such as `[conv1, conv2]`.
        trunk: `published` has seven convolutions (Kim et al. 2018); `residual` has one and six blocks of two
            with a skip connection (compare Won et al. 2020, short-chunk CNN), and learns more from more data.
        width: Multiplies the channels of the convolutions; the embedding keeps 256 values.
        dropout: Rate after the embedding, in training.
        heads: What predictions begin with: `random` weights, as published, or `mean`, the mean target of the
            training tracks, which small training sets need not learn first.
        loss_scaling: `batch` averages the divergence over the batch; `paper` over all elements
            (1/50 of it; 1/2 for `self`), as the authors' code does.
        l2: Weight of the squared norm, inside the gradient of every trainable value.
    """

    start: PathText | None = None
    freeze: Annotated[tuple[BlockName, ...], Field(strict=False)] = ()
    trunk: TrunkName = "published"
    width: Annotated[float, Field(gt=0, le=8)] = 1.0
    dropout: Fraction = 0.5
    heads: Literal["random", "mean"] = "random"
    loss_scaling: Literal["batch", "paper"] = "batch"
    l2: Annotated[float, Field(ge=0, lt=1)] = 1e-6


class ContrastSettings(Settings):
    """How `self` is learnt where `targets.kinds` says `contrast` (NT-Xent, Chen et al. 2020).

    Attributes:
        temperature: Cosines are divided by it.
        views: A crop is told from the other crops of the batch: `across` from the second crops of all tracks,
            `all` from the first ones as well.
        negatives: `replica`: the crops of a GPU's own part of the batch are told apart; `all`: those of the
            whole batch, for which every step waits until all GPUs have their crops' values.
        same_group: Whether tracks of one group of `corpus.groups`, such as those of an artist, are
            `negatives` of each other, or `ignored`.
        projection: Values that crops are compared by, behind a hidden layer of twice the embedding.
    """

    temperature: Annotated[float, Field(gt=0, le=10)] = 0.1
    views: Literal["across", "all"] = "across"
    negatives: Literal["replica", "all"] = "replica"
    same_group: Literal["negatives", "ignored"] = "negatives"
    projection: Annotated[int, Field(ge=2, le=4096)] = 128
