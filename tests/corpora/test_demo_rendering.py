import numpy as np
import pytest

from kerasrep.constants import SAMPLE_RATE_HZ
from kerasrep.corpora.demo import arrangement, pieces, recording
from kerasrep.corpora.demo.arrangement import BPM_RANGE, DRUMS, Arrangement, Voice, arrange
from kerasrep.corpora.demo.draws import generator
from kerasrep.corpora.demo.instruments import BY_PROGRAM, INSTRUMENTS
from kerasrep.corpora.demo.recording import loudness_lufs
from kerasrep.corpora.demo.score import Metre, Part, Score

COMMON_TIME = Metre(4, 4)


def scale(metre=COMMON_TIME, low=60, n_notes=32, n_parts=1):
    steps = [0, 2, 4, 5, 7, 9, 11, 12]
    parts = tuple(
        Part.from_rows([(place * 0.5, 0.5, low - 7 * number + steps[place % 8]) for place in range(n_notes)])
        for number in range(n_parts)
    )
    return Score(parts, metre, 0, "major")


def held(program, pitch, seconds=2.0, pan=0.3):
    one = Voice(
        program, np.array([0.0]), np.array([seconds]), np.array([pitch]), np.array([90]), level=1.0, pan=pan
    )
    return Arrangement((one,), 120.0, 0, "solo", 0.0)


@pytest.mark.parametrize("sample_rate_hz", [48_000, 22_050])
def test_loudness_of_the_reference_tone(sample_rate_hz):
    # BS.1770-4: 0 dBFS at 997 Hz in one channel reads -3.01 LUFS.
    time = np.arange(3 * sample_rate_hz) / sample_rate_hz
    audio = np.stack([np.sin(2 * np.pi * 997 * time), np.zeros_like(time)])
    assert loudness_lufs(audio, sample_rate_hz) == pytest.approx(-3.01, abs=0.05)
    assert loudness_lufs(audio * 0.1, sample_rate_hz) == pytest.approx(-23.01, abs=0.05)


def test_loudness_gates_silence_out_and_silence_alone_is_minus_infinity():
    time = np.arange(4 * 48_000) / 48_000
    tone = 0.1 * np.sin(2 * np.pi * 997 * time)
    alone = loudness_lufs(np.stack([tone, tone]), 48_000)
    padded = np.concatenate([tone, np.zeros_like(tone)])
    assert loudness_lufs(np.stack([padded, padded]), 48_000) == pytest.approx(alone, abs=0.2)
    assert loudness_lufs(np.zeros((2, 48_000)), 48_000) == -np.inf


def harmonic_cents(signal, expected_hz):
    """Offset in cents at which partials 1 to 6 of a tone are strongest together."""
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 2**18))
    offsets = np.arange(-700, 701, 10)
    means = []
    for offset in offsets:
        centres = np.arange(1, 7) * expected_hz * 2 ** (offset / 1200) * 2**18 / SAMPLE_RATE_HZ
        bins = [round(centre) for centre in centres if centre < len(power) - 4]
        means.append(np.mean([np.log(power[place - 3 : place + 4].max() + 1e-9) for place in bins]))
    return offsets[int(np.argmax(means))]


def harmonic_share(signal, expected_hz):
    """Share of the energy within 30 cents of a multiple of the expected frequency, up to the tenth."""
    power = np.abs(np.fft.rfft(signal * np.hanning(len(signal)), 2**16)) ** 2
    ratios = np.fft.rfftfreq(2**16, expected_hz / SAMPLE_RATE_HZ)
    heard = (ratios > 0.4) & (ratios < 10.5)
    nearest = np.maximum(np.rint(ratios[heard]), 1)
    resolution = 3 * SAMPLE_RATE_HZ / len(signal) / expected_hz
    within = np.abs(ratios[heard] - nearest) <= np.maximum(nearest * (2 ** (30 / 1200) - 1), resolution)
    return power[heard][within].sum() / power[heard].sum()


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda one: one.name)
def test_every_instrument_plays_the_pitch_of_the_note_over_its_range(instrument):
    for pitch in np.linspace(instrument.low, instrument.high, 5).astype(int):
        audio = recording.render(held(instrument.program, pitch), 1.5, pieces.sound_font())
        expected_hz = 440 * 2 ** ((pitch - 69) / 12)
        tone = audio[1500:30_000].sum(axis=1)
        # Nearly pure tones have no partials to agree on, but all their energy is where it should be.
        assert harmonic_share(tone, expected_hz) >= 0.8 or abs(harmonic_cents(tone, expected_hz)) <= 30, pitch


def test_rendering_is_loud_enough_never_clips_and_pans():
    audio = recording.render(held(40, 70, seconds=5.0, pan=0.5), 5.0, pieces.sound_font())
    assert audio.shape == (5 * SAMPLE_RATE_HZ, 2)
    assert np.abs(audio.astype(int)).max() <= round(recording.PEAK * 32767)
    measured = loudness_lufs(audio.T / 32768, SAMPLE_RATE_HZ)
    assert measured == pytest.approx(recording.LOUDNESS_LUFS, abs=0.3)
    left, right = np.sqrt(np.mean(audio.astype(float) ** 2, axis=0))
    assert right > 1.5 * left


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda one: one.name)
def test_every_instrument_sounds_at_both_ends_of_its_range(instrument):
    for pitch in (instrument.low, instrument.high):
        audio = recording.render(held(instrument.program, pitch, 0.6), 0.8, pieces.sound_font())
        assert np.abs(audio.astype(int)).max() > 300


def test_arrangements_stay_within_tempo_instruments_and_time():
    for number in range(120):
        score = scale(
            (Metre(4, 4), Metre(6, 8), Metre(3, 8))[number % 3], low=50 + number % 30, n_parts=1 + number % 3
        )
        made = arrange(score, ("", "jig", "reel")[number % 3], "someone", 12.0, generator("test", number))
        assert BPM_RANGE[0] <= made.bpm <= BPM_RANGE[1]
        for voice in made.voices:
            assert voice.starts_seconds.min() >= 0 and voice.starts_seconds.max() < 12.1
            assert voice.velocities.min() >= 1 and voice.velocities.max() <= 127
            if voice.program != DRUMS:
                instrument = BY_PROGRAM[voice.program]
                assert instrument.low <= voice.pitches.min() and voice.pitches.max() <= instrument.high


def test_a_short_tune_is_repeated_at_the_drawn_tempo():
    made = arrange(scale(), "", "someone", 30.0, generator("repeat"))
    lead = made.voices[0]
    expected_gap = 0.5 * 60 / made.bpm
    assert np.median(np.diff(lead.starts_seconds)) == pytest.approx(expected_gap, abs=0.01)
    assert lead.starts_seconds.max() > 29.0
    classes = (lead.pitches - made.transposition) % 12
    np.testing.assert_array_equal(classes[:16], [0, 2, 4, 5, 7, 9, 11, 0] * 2)


def test_the_pulse_beats_the_felt_tempo_after_the_pickup():
    score = Score(scale().parts, Metre(6, 8), 0, "major", pickup_quarters=0.5)
    beats = arrangement.pulse(score)
    struck = beats.starts[np.isin(beats.pitches, (36, 37))]
    assert struck[0] == 0.5
    np.testing.assert_allclose(np.diff(struck), 1.5)


def test_the_chord_of_a_bar_is_the_triad_that_the_melody_outlines():
    rows = [(place * 1.0, 1.0, pitch) for place, pitch in enumerate([60, 64, 67, 60, 67, 71, 74, 67])]
    melody = Part.from_rows(rows)
    bass, chords = arrangement.bass_and_chords(Score((melody,), Metre(), 0, "major"), melody, 0)
    np.testing.assert_array_equal(bass.pitches % 12, [0, 7])
    assert set(chords.pitches[chords.starts < 4] % 12) == {0, 4, 7}
    assert set(chords.pitches[chords.starts >= 4] % 12) == {7, 11, 2}
