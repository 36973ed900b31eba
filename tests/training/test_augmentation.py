import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from kerasrep.model.dropout import Share
from kerasrep.model.strategies import Scaler
from kerasrep.recipe.augment import AugmentSettings
from kerasrep.training import augmentation
from kerasrep.training.augmentation import Draws, change_mel, change_waveform

EVERYTHING = AugmentSettings(
    slow=0.4,
    gain_db=(-15.0, 6.0),
    mix=0.5,
    noise=0.5,
    swap=0.5,
    mono=0.3,
    equaliser=0.5,
    band_limit=0.5,
    masks=2,
)


def crops(n=6, samples=400, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(0, 0.1, (n, samples, 2)), tf.float32)


def draws(step=3, replica=0, replicas=1, paired=False, alike=()):
    share = Share(tf.constant(replica, tf.int64), replicas, paired)
    return Draws(7, tf.constant(step, tf.int64), share, alike)


def test_a_tone_that_is_played_slower_is_lower_by_the_speed():
    seconds = np.arange(22_050) / 22_050
    tones = np.sin(2 * np.pi * np.outer(seconds, (440.0, 1000.0)))
    x = tf.constant(np.stack([tones, tones, tones]), tf.float32)
    y = augmentation.slow(x, tf.constant([1.0, 0.8, 0.95])).numpy()
    np.testing.assert_array_equal(y[0], x[0])
    for found, speed in zip(y[1:], (0.8, 0.95), strict=True):
        expected = np.sin(2 * np.pi * np.outer(seconds * speed, (440.0, 1000.0)))
        # The first samples have no neighbour before them.
        np.testing.assert_allclose(found[2:], expected[2:], atol=2e-3)


def test_gain_changes_the_level_by_its_decibels():
    x = crops(2)
    y = augmentation.gain(x, tf.constant([-6.0, 20.0]))
    level = 20 * np.log10(np.std(y, axis=(1, 2)) / np.std(x, axis=(1, 2)))
    np.testing.assert_allclose(level, [-6.0, 20.0], atol=1e-4)


def test_mixing_adds_the_other_crop_at_its_level_and_only_where_chosen():
    x = crops(3)
    y = augmentation.mix(
        x, tf.constant([1, 2, 0]), tf.constant([-20.0] * 3), tf.constant([True, False, True])
    )
    np.testing.assert_allclose(y, np.stack([x[0] + x[1] * 0.1, x[1], x[2] + x[0] * 0.1]), atol=1e-6)


def test_noise_has_the_level_asked_for_below_the_crop():
    x = crops(2, 40_000)
    white = tf.random.stateless_normal(x.shape, (1, 2))
    y = augmentation.noise(x, white, tf.constant([-20.0, -20.0]), tf.constant([True, False]))
    added = np.std(y - x, axis=(1, 2)) / np.std(x, axis=(1, 2))
    np.testing.assert_allclose(20 * np.log10(added[0]), -20, atol=0.1)
    assert added[1] == 0


def test_swapping_and_mono_touch_the_channels_alone():
    x, chosen = crops(2), tf.constant([True, False])
    np.testing.assert_array_equal(augmentation.swap(x, chosen)[0], x[0][:, ::-1])
    np.testing.assert_array_equal(augmentation.swap(x, chosen)[1], x[1])
    same = augmentation.mono(x, chosen)[0]
    np.testing.assert_allclose(same[:, 0], np.mean(x[0], 1), rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(same[:, 0], same[:, 1])


def test_an_equaliser_adds_its_decibels_to_each_band():
    sd = tf.constant(np.linspace(5, 20, 8), tf.float32)
    curve = tf.constant(np.random.default_rng(0).normal(0, 4, (2, 8)), tf.float32)
    mel = tf.zeros((2, 5, 8, 2))
    found = augmentation.equalise(mel, curve, sd) * sd[:, None]  # back to decibels
    np.testing.assert_allclose(found, np.broadcast_to(curve[:, None, :, None], found.shape), rtol=1e-5)


def test_a_band_limit_silences_the_bands_above_and_no_other():
    scaler = Scaler(np.full(10, -40, np.float32), np.linspace(5, 14, 10).astype(np.float32))
    decibels = np.random.default_rng(1).uniform(-60, 0, (2, 4, 10, 2)).astype(np.float32)
    mel = (decibels - scaler.mean[:, None]) / scaler.sd[:, None]
    found = augmentation.band_limit(tf.constant(mel), tf.constant([0.6, 1.0]), scaler)
    back = found * scaler.sd[:, None] + scaler.mean[:, None]
    np.testing.assert_allclose(back[0, :, :6], decibels[0, :, :6], atol=1e-4)
    np.testing.assert_allclose(back[0, :, 6:], decibels[0].max() - 80, atol=1e-3)
    np.testing.assert_allclose(back[1], decibels[1], atol=1e-4)


@pytest.mark.parametrize("axis", [1, 2])
def test_a_mask_covers_its_stripe(axis):
    mel = tf.ones((1, 20, 10, 2))
    found = augmentation.mask(mel, tf.constant([[0.5]]), tf.constant([[0.2]]), axis).numpy()
    hidden = (found == 0).all(axis=(0, 3)).all(axis=1 if axis == 1 else 0)
    size = mel.shape[axis]
    np.testing.assert_array_equal(np.flatnonzero(hidden), np.arange(int(0.4 * size), int(0.6 * size)))


def test_the_same_step_draws_the_same_and_another_one_something_else():
    x = crops()
    first, again, other = (
        change_waveform(x, EVERYTHING.names(), EVERYTHING, draws(step)).numpy() for step in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


@pytest.mark.parametrize(("paired", "alike"), [(False, ()), (True, ()), (True, ("mono", "masks", "gain"))])
def test_two_replicas_change_their_crops_as_one_does(paired, alike):
    settings = EVERYTHING.model_copy(update={"mix": 0.0})  # whose other crop is of the same replica
    x = crops(8)
    mel = tf.reshape(x, (8, 20, 20, 2))
    scaler = Scaler.identity(20)

    def changed(part, share):
        names = settings.names()
        wave = change_waveform(tf.gather(x, part), names, settings, share)
        return wave.numpy(), change_mel(tf.gather(mel, part), names, settings, scaler, share).numpy()

    whole = changed(range(8), draws(paired=paired, alike=alike))
    parts = ([0, 1, 4, 5], [2, 3, 6, 7]) if paired else ([0, 1, 2, 3], [4, 5, 6, 7])
    for replica, part in enumerate(parts):
        found = changed(part, draws(replica=replica, replicas=2, paired=paired, alike=alike))
        for mine, all_of_them in zip(found, whole, strict=True):
            np.testing.assert_allclose(mine, all_of_them[part], atol=1e-6)


def test_both_crops_of_a_pair_have_alike_what_shall_be_alike_and_nothing_else():
    settings = AugmentSettings(mono=0.5, swap=0.5, gain_db=(-6.0, 6.0), alike=("mono", "gain"))
    x = tf.tile(crops(32)[:1], (64, 1, 1))  # pairs of equal crops: the first ones, then the second ones
    share = draws(paired=True, alike=settings.alike)
    changed = change_waveform(x, settings.names(), settings, share).numpy()
    is_mono = np.isclose(changed[..., 0], changed[..., 1]).all(1)
    np.testing.assert_array_equal(is_mono[:32], is_mono[32:])
    assert 8 < is_mono[:32].sum() < 24
    level = np.sqrt(np.square(changed.sum(-1)).mean(1))  # of both channels, as swapping leaves it
    np.testing.assert_allclose(level[:32], level[32:], rtol=1e-5)
    assert level.std() > 0.01
    swapped = ~np.isclose(changed[:32], changed[32:], atol=1e-6).all((1, 2))
    assert 4 < (swapped & ~is_mono[:32]).sum() < 20
    alone = change_waveform(x, settings.names(), settings, draws(alike=settings.alike)).numpy()
    alone = np.isclose(alone[..., 0], alone[..., 1]).all(1)
    assert (alone[:32] != alone[32:]).any()  # these are no pairs


def test_shares_and_ranges_are_those_of_the_settings():
    n = tf.constant(20_000)
    draw = draws()
    assert abs(float(tf.reduce_mean(tf.cast(draw.chosen("swap", n, 0.3), tf.float32))) - 0.3) < 0.02
    x = tf.ones((20_000, 1, 2))
    settings = AugmentSettings(gain_db=(-15.0, 6.0))
    level = 20 * np.log10(change_waveform(x, settings.names(), settings, draw)[:, 0, 0])
    assert level.min() == pytest.approx(-15, abs=0.01) and level.max() == pytest.approx(6, abs=0.01)
    assert level.mean() == pytest.approx(-4.5, abs=0.1)


def test_nothing_is_on_by_default_and_int16_is_left_as_it_is():
    settings, x = AugmentSettings(), tf.constant([[[1, 2]]], tf.int16)
    assert settings.names() == ()
    assert change_waveform(x, settings.names(), settings, draws()) is x


@pytest.mark.parametrize("name", EVERYTHING.names())
def test_crops_that_are_spared_a_change_stay_as_they_are_and_the_others_do_not(name):
    spared = tf.constant([True, False] * 16)
    chances = dict.fromkeys(("slow", "mix", "noise", "swap", "mono", "equaliser", "band_limit"), 1.0)
    settings = EVERYTHING.model_copy(update={**chances, "band_limit_lowest": 0.2, "gain_db": (-15.0, -9.0)})
    draw = dataclasses.replace(draws(), spared={name: spared})
    if name in augmentation.ON_WAVEFORM:
        before = crops(32)
        after = change_waveform(before, (name,), settings, draw)
    else:
        before = tf.constant(np.random.default_rng(0).normal(0, 1, (32, 9, 16, 2)), tf.float32)
        scaler = Scaler(np.full(16, -30, np.float32), np.full(16, 10, np.float32))
        after = change_mel(before, (name,), settings, scaler, draw)
    same = np.all(np.asarray(before) == np.asarray(after), axis=tuple(range(1, len(before.shape))))
    np.testing.assert_array_equal(same[::2], True)
    assert same[1::2].sum() <= 4  # a band limit may lie above all bands, a mask beside all frames


def test_a_change_is_left_out_for_sources_whose_labels_it_would_spoil():
    settings = EVERYTHING.model_copy(update={"leave_out": {"loudness": ("gain", "mix")}})
    assert "gain" in settings.names(("tag",))
    assert {"gain", "mix"} & set(settings.names(("loudness",))) == set()
    assert "gain" not in settings.names(("tag", "loudness"))
