"""Real audio for warm-up requests: what the model was validated on, or a tune that is played here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.data.shards import FULL_SCALE, load_index
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import PreparedDirectory, RunDirectory, read_json

RENDERED = "a scale on a plucked string, rendered at export (no training audio was at hand)"
VALIDATION = "validation tracks of the training corpus"
N_TRACKS = 2
NOTE_SECONDS = 0.3
#: G major, upwards; hertz.
SCALE_HZ = (196.0, 220.0, 246.94, 261.63, 293.66, 329.63, 369.99, 392.0)


def warmup_audio(
    run: RunDirectory | None, samples: int, sample_rate_hz: int
) -> tuple[NDArray[np.float32], str]:
    """Two stretches of music.

    Args:
        run: Whose validation tracks are used where its shards are still there; `None` for a network that
            was trained elsewhere.
        samples: A channel.
        sample_rate_hz: Of the model.

    Returns:
        float32 [2, samples, 2], and where it is from.
    """
    found = None if run is None else _validation_audio(run, samples, sample_rate_hz)
    if found is not None:
        return found, VALIDATION
    scales = [plucked_scale(samples, sample_rate_hz, step) for step in range(N_TRACKS)]
    return np.stack(scales), RENDERED


def prepared_directory(run: RunDirectory) -> PreparedDirectory | None:
    """The shards and targets that a run was trained on; `None` where they are not there any more."""
    try:
        about = read_json(run.prepared)
        prepared = PreparedDirectory(Path(about["root"]))
    except (DataError, KeyError, TypeError):
        return None
    return prepared if prepared.manifest.is_file() else None


def _validation_audio(run: RunDirectory, samples: int, sample_rate_hz: int) -> NDArray[np.float32] | None:
    """The middle of the first validation tracks that are long enough."""
    prepared = prepared_directory(run)
    if prepared is None:
        return None
    try:
        index = load_index(prepared)
    except DataError:
        return None
    rows = [row for row in index.rows("validation").tolist() if index.samples[row] >= samples]
    if len(rows) < N_TRACKS or index.sample_rate_hz != sample_rate_hz:
        return None
    stretches = []
    for row in rows[:N_TRACKS]:
        start = (int(index.samples[row]) - samples) // 2
        stretches.append(index.read(row)[start : start + samples].astype(np.float32) / FULL_SCALE)
    found: NDArray[np.float32] = np.stack(stretches)
    return found


def plucked_scale(samples: int, sample_rate_hz: int, first: int = 0) -> NDArray[np.float32]:
    """Play a scale on a plucked string (Karplus, Strong 1983), softer on the right.

    Args:
        samples: A channel.
        sample_rate_hz: In hertz.
        first: Step of the scale to begin on.

    Returns:
        float32 [samples, 2], within [-0.5, 0.5].
    """
    rng = np.random.default_rng(first)
    note_samples = int(NOTE_SECONDS * sample_rate_hz)
    notes = []
    for number in range(-(-samples // note_samples)):
        period = max(2, round(sample_rate_hz / SCALE_HZ[(first + number) % len(SCALE_HZ)]))
        string = rng.uniform(-0.5, 0.5, period)
        rounds = []
        for _ in range(-(-note_samples // period)):
            rounds.append(string)
            string = 0.498 * (string + np.roll(string, 1))
        notes.append(np.concatenate(rounds)[:note_samples])
    mono = np.concatenate(notes)[:samples]
    stereo: NDArray[np.float32] = np.stack([mono, 0.7 * mono], axis=1).astype(np.float32)
    return stereo
