"""Random changes of crops, on the device: first of the waveform, then of the standardised log-mel.

Each change is a function of its input and of values that were drawn apart from it, so that it can be tested
with values of one's own. Values depend on the recipe's seed, the number of the step and the crop's place in
the whole batch alone: a resumed training sees the same, and so do several replicas (but for `mix`, whose
other crop comes from the same replica). Nothing is clipped; gain and mixing can exceed full scale.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import tensorflow as tf

from kerasrep import constants
from kerasrep.data.batches import to_float
from kerasrep.model.dropout import Share
from kerasrep.model.strategies import Scaler
from kerasrep.recipe.augment import AugmentationName, AugmentSettings

ON_WAVEFORM: tuple[AugmentationName, ...] = ("slow", "gain", "mix", "noise", "swap", "mono")


@dataclass(frozen=True)
class Draws:
    """Random values of one step.

    Attributes:
        seed: Of the recipe.
        step: Its number, int64 [].
        share: Which crops of the batch are here.
        alike: Changes that both crops of a pair have alike.
        spared: Change -> crops that it is not made to, bool [n].
    """

    seed: int
    step: tf.Tensor
    share: Share
    alike: Sequence[AugmentationName] = ()
    spared: Mapping[AugmentationName, tf.Tensor] = field(default_factory=dict)

    def uniform(self, name: str, n: tf.Tensor, shape: Sequence[int] = ()) -> tf.Tensor:
        """Values from 0 to 1, float32 [n, *shape], one row a crop that is here.

        Args:
            name: What they are for: each has values of its own.
            n: Crops that are here, int32 [].
            shape: Of the values of one crop.
        """
        return self._own(tf.random.stateless_uniform, name, n, shape)

    def normal(self, name: str, n: tf.Tensor, shape: Sequence[int] = ()) -> tf.Tensor:
        """Standard normal values, otherwise as `uniform`."""
        return self._own(tf.random.stateless_normal, name, n, shape)

    def chosen(self, name: str, n: tf.Tensor, probability: float) -> tf.Tensor:
        """Which crops are changed, bool [n]."""
        return self.uniform(f"{name}/chosen", n) < probability

    def unless_spared(self, name: AugmentationName, before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
        """`after`, [n, ...], but `before` for the crops that are spared this change."""
        if name not in self.spared:
            return after
        spared = self.spared[name]
        return tf.where(tf.reshape(spared, (-1, *[1] * (len(before.shape) - 1))), before, after)

    def _own(
        self, draw: Callable[..., tf.Tensor], name: str, n: tf.Tensor, shape: Sequence[int]
    ) -> tf.Tensor:
        number = (zlib.crc32(name.encode()) + self.seed * 4099) % 2**31
        seed = tf.stack([self.step % 2**31, tf.constant(number, tf.int64)])
        values = self.share.own(draw((self.share.replicas * n, *shape), seed))
        if self.share.paired and name.partition("/")[0] in self.alike:
            first = values[: n // 2]
            return tf.concat([first, first], 0)
        return values


def spared_crops(
    settings: AugmentSettings, sources: Sequence[str], weights: Sequence[tf.Tensor]
) -> dict[AugmentationName, tf.Tensor]:
    """Crops that a change is not made to, because a label that they have would not survive it.

    Args:
        settings: Their `leave_out` says which labels those are.
        sources: Of the step.
        weights: Of each source the weights of the crops' labels, float32 [n]; 0 where there is none.

    Returns:
        Change -> bool [n].
    """
    spared: dict[AugmentationName, tf.Tensor] = {}
    for source, weight in zip(sources, weights, strict=True):
        for change in settings.leave_out.get(source, ()):
            spared[change] = spared.get(change, False) | (weight > 0)
    return spared


def slow(x: tf.Tensor, speed: tf.Tensor) -> tf.Tensor:
    """Play the beginning of each crop slower, by cubic interpolation (Catmull and Rom 1974).

    Args:
        x: float32 [n, samples, channels].
        speed: float32 [n], at most 1.
    """
    samples = x.shape[1]
    places = tf.range(samples, dtype=tf.float32) * speed[:, None]
    before = tf.floor(places)
    t = (places - before)[..., None]
    before = tf.cast(before, tf.int32)
    a, b, c, d = (
        tf.gather(x, tf.clip_by_value(before + offset, 0, samples - 1), batch_dims=1)
        for offset in (-1, 0, 1, 2)
    )
    return b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))


def gain(x: tf.Tensor, level_db: tf.Tensor) -> tf.Tensor:
    """Amplify each crop.

    Args:
        x: float32 [n, samples, channels].
        level_db: float32 [n].
    """
    return x * _amplitude(level_db)[:, None, None]


def mix(x: tf.Tensor, order: tf.Tensor, level_db: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Add another crop to some.

    Args:
        x: float32 [n, samples, channels].
        order: int32 [n], the crop that is added to each.
        level_db: float32 [n], of what is added.
        chosen: bool [n].
    """
    scale = tf.where(chosen, _amplitude(level_db), 0.0)
    return x + scale[:, None, None] * tf.gather(x, order)


def noise(x: tf.Tensor, white: tf.Tensor, level_db: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Add noise to some crops.

    Args:
        x: float32 [n, samples, channels].
        white: float32 [n, samples, channels], of variance 1.
        level_db: float32 [n], relative to the crop's power.
        chosen: bool [n].
    """
    power = tf.sqrt(tf.reduce_mean(tf.square(x), (1, 2)))
    return x + tf.where(chosen, power * _amplitude(level_db), 0.0)[:, None, None] * white


def swap(x: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Swap the channels of some crops, float32 [n, samples, 2]."""
    return tf.where(chosen[:, None, None], x[..., ::-1], x)


def mono(x: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
    """Put the mean of the channels into both of some crops, float32 [n, samples, 2]."""
    return tf.where(chosen[:, None, None], tf.reduce_mean(x, -1, keepdims=True), x)


def equalise(mel: tf.Tensor, curve_db: tf.Tensor, sd: tf.Tensor) -> tf.Tensor:
    """Add a curve over the bands to each crop.

    Args:
        mel: Standardised, float32 [n, frames, bands, channels].
        curve_db: float32 [n, bands].
        sd: float32 [bands], decibels that one unit of `mel` stands for.
    """
    return mel + (curve_db / sd)[:, None, :, None]


def band_limit(mel: tf.Tensor, highest: tf.Tensor, scaler: Scaler) -> tf.Tensor:
    """Silence the bands above the highest one, as far as the front end's floor.

    Args:
        mel: Standardised, float32 [n, frames, bands, channels].
        highest: float32 [n], the last band that is kept, as a part of all.
        scaler: What `mel` was standardised by.
    """
    mean, sd = scaler.mean[:, None], scaler.sd[:, None]  # [bands, 1]
    loudest = tf.reduce_max(mel * sd + mean, (1, 2, 3), keepdims=True)
    floor = (loudest - constants.DB_TOP - mean) / sd
    places = tf.range(1, mel.shape[2] + 1, dtype=tf.float32) / float(mel.shape[2])
    above = places[None, :] > highest[:, None]
    return tf.where(above[:, None, :, None], floor, mel)


def mask(mel: tf.Tensor, centres: tf.Tensor, widths: tf.Tensor, axis: int) -> tf.Tensor:
    """Set stripes to the bands' means (SpecAugment, Park et al. 2019).

    Args:
        mel: Standardised, float32 [n, frames, bands, channels].
        centres: float32 [n, stripes], as parts of the axis.
        widths: float32 [n, stripes], likewise.
        axis: 1 for frames, 2 for bands.
    """
    size = int(mel.shape[axis])
    places = (tf.range(size, dtype=tf.float32) + 0.5) / float(size)
    inside = tf.abs(places[None, None, :] - centres[..., None]) < widths[..., None] / 2
    hidden = tf.reduce_any(inside, 1)  # [n, size]
    hidden = hidden[:, :, None, None] if axis == 1 else hidden[:, None, :, None]
    return tf.where(hidden, 0.0, mel)


def change_waveform(
    x: tf.Tensor, names: Sequence[AugmentationName], settings: AugmentSettings, draws: Draws
) -> tf.Tensor:
    """Make the changes that are made before the front end, int16 or float32 [n, samples, channels]."""
    if not set(names) & set(ON_WAVEFORM):
        return x
    x, n = to_float(x), tf.shape(x)[0]
    if "slow" in names:
        speed = _between((settings.slow_least, 1.0), draws.uniform("slow", n))
        speed = tf.where(draws.chosen("slow", n, settings.slow), speed, 1.0)
        x = draws.unless_spared("slow", x, slow(x, speed))
    if "gain" in names:
        changed = gain(x, _between(settings.gain_db, draws.uniform("gain", n)))
        x = draws.unless_spared("gain", x, changed)
    if "mix" in names:
        order = tf.argsort(tf.random.stateless_uniform((n,), _seed_of_replica(draws)))
        level = _between(settings.mix_db, draws.uniform("mix", n))
        x = draws.unless_spared("mix", x, mix(x, order, level, draws.chosen("mix", n, settings.mix)))
    if "noise" in names:
        white = draws.normal("noise/samples", n, x.shape[1:])
        level = _between(settings.noise_db, draws.uniform("noise", n))
        changed = noise(x, white, level, draws.chosen("noise", n, settings.noise))
        x = draws.unless_spared("noise", x, changed)
    if "swap" in names:
        x = draws.unless_spared("swap", x, swap(x, draws.chosen("swap", n, settings.swap)))
    if "mono" in names:
        x = draws.unless_spared("mono", x, mono(x, draws.chosen("mono", n, settings.mono)))
    return x


def change_mel(
    mel: tf.Tensor, names: Sequence[AugmentationName], settings: AugmentSettings, scaler: Scaler, draws: Draws
) -> tf.Tensor:
    """Make the changes that are made behind the front end, float32 [n, frames, bands, channels]."""
    n, bands = tf.shape(mel)[0], int(mel.shape[2])
    if "equaliser" in names:
        knots = draws.normal("equaliser", n, (settings.equaliser_knots,)) * settings.equaliser_db
        chosen = draws.chosen("equaliser", n, settings.equaliser)
        knots = tf.where(chosen[:, None], knots, 0.0)
        curve = tf.matmul(knots, _interpolation(settings.equaliser_knots, bands))
        mel = draws.unless_spared("equaliser", mel, equalise(mel, curve, tf.constant(scaler.sd)))
    if "band_limit" in names:
        highest = _between((settings.band_limit_lowest, 1.0), draws.uniform("band_limit", n))
        chosen = draws.chosen("band_limit", n, settings.band_limit)
        changed = band_limit(mel, tf.where(chosen, highest, 1.0), scaler)
        mel = draws.unless_spared("band_limit", mel, changed)
    if "masks" in names:
        for axis, name in ((1, "masks/frames"), (2, "masks/bands")):
            centres = draws.uniform(name, n, (settings.masks,))
            widths = draws.uniform(f"{name}/widths", n, (settings.masks,)) * settings.mask_width
            mel = draws.unless_spared("masks", mel, mask(mel, centres, widths, axis))
    return mel


def _amplitude(level_db: tf.Tensor) -> tf.Tensor:
    return tf.pow(10.0, level_db / 20.0)


def _between(bounds: tuple[float, float], uniform: tf.Tensor) -> tf.Tensor:
    low, high = bounds
    return low + (high - low) * uniform


def _seed_of_replica(draws: Draws) -> tf.Tensor:
    number = (zlib.crc32(b"mix/order") + draws.seed * 4099) % 2**31
    return tf.stack([draws.step % 2**31, number + tf.cast(draws.share.replica, tf.int64)])


def _interpolation(knots: int, bands: int) -> tf.Tensor:
    """Linear interpolation from knots to bands, float32 [knots, bands]."""
    places = np.linspace(0.0, knots - 1.0, bands)
    rows = [np.interp(places, np.arange(knots), row) for row in np.eye(knots)]
    return tf.constant(np.asarray(rows, np.float32))
