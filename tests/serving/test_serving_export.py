"""Exports of all strategies, loaded as a server loads them: in a process without kerasrep."""

import hashlib
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from kerasrep import constants
from kerasrep.data.identity import Identity
from kerasrep.data.recordings import Identities, write_identities
from kerasrep.errors import DataError, ExportError
from kerasrep.serving.card import Origin, make_card
from kerasrep.serving.check import largest_difference
from kerasrep.serving.export import _claim, export_run, write_saved_model
from kerasrep.storage.export_directory import ServingFolder, identities_path, read_card, trained_on
from kerasrep.storage.run_directory import RunDirectory, write_json

SEGMENT = constants.SEGMENT_SAMPLES

LOADER = """
import json
import sys
import numpy as np
import tensorflow as tf

inputs = np.load("inputs.npz")
outputs, described = {}, {}
for path in sys.argv[1:]:
    signatures = tf.saved_model.load(path).signatures
    assert set(signatures) == {"serving_default", "embed_track"}
    described[path] = {
        name: {
            "inputs": sorted(function.structured_input_signature[1]),
            "outputs": {o: f"float32 [batch, {t.shape[-1]}]" for o, t in function.structured_outputs.items()},
        }
        for name, function in signatures.items()
    }
    for batch in (1, 3):
        found = signatures["serving_default"](waveform=tf.constant(inputs["segments"][:batch]))
        outputs |= {f"{path}:{batch}:{name}": value for name, value in found.items()}
        found = signatures["embed_track"](
            waveform=tf.constant(inputs["tracks"][:batch]),
            length_samples=tf.constant(inputs["lengths"][:batch]),
        )
        outputs |= {f"{path}:{batch}:track_{name}": value for name, value in found.items()}
assert not {m for m in sys.modules if m.partition(".")[0] in {"kerasrep", "kapre"}}
np.savez("outputs.npz", **outputs)
with open("described.json", "w") as file:
    json.dump(described, file)
"""


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


INPUTS = {
    "segments": noise(0, 3, SEGMENT, 2),
    "tracks": noise(1, 3, 2 * SEGMENT + 500, 2),
    "lengths": np.array([2 * SEGMENT + 500, 700, SEGMENT], np.int32),
}


def features_of(network, segments):
    return network.embedder(segments, training=False)["embedding"].numpy().astype(np.float64)


def brute_force(network, track, length):
    """Mean and deviation over the segments of one track, cut in NumPy one by one."""
    length = min(max(length, 0), len(track))
    rows = []
    for start in range(0, max(length, 1), SEGMENT):
        segment = np.zeros((1, SEGMENT, 2), np.float32)
        piece = track[start : min(start + SEGMENT, length)]
        segment[0, : len(piece)] = piece
        rows.append(features_of(network, segment)[0])
    return np.concatenate([np.mean(rows, axis=0), np.std(rows, axis=0)])


@pytest.fixture(scope="module")
def all_strategies(make_run, tmp_path_factory):
    """Runs of all strategies, their exports, and what a plain TensorFlow process finds in these."""
    folder = tmp_path_factory.mktemp("strategies")
    runs, paths = {}, {}
    for strategy in constants.STRATEGIES:
        # One at full width; widths make no difference to how a network is exported.
        one = strategy == "ss-r"
        runs[strategy] = make_run(
            strategy, ("tag",) if one else ("year", "self"), model={"width": 1.0 if one else 0.0625}
        )
        paths[strategy] = folder / strategy
        write_saved_model(folder / strategy, runs[strategy].network, SEGMENT)
    np.savez(folder / "inputs.npz", **INPUTS)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", LOADER, *map(str, paths.values())],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs.npz") as loaded:
        outputs = {name: loaded[name] for name in loaded.files}
    return runs, paths, outputs, json.loads((folder / "described.json").read_text())


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_serving_default_gives_the_embeddings_of_the_network(all_strategies, strategy, batch):
    runs, paths, outputs, _ = all_strategies
    network = runs[strategy].network
    prefix = f"{paths[strategy]}:{batch}:"
    found = {
        n.removeprefix(prefix): v for n, v in outputs.items() if n.startswith(prefix) and "track_" not in n
    }
    expected_names = {"embedding"}
    if strategy != "ms-sr@fc":
        expected_names |= {f"embedding_{source}" for source in network.sources}
    assert set(found) == expected_names
    expected = network.embedder(INPUTS["segments"][:batch], training=False)
    for name, value in found.items():
        assert value.dtype == np.float32
        assert value.shape == (batch, 256 * (len(network.branches) if name == "embedding" else 1))
        np.testing.assert_allclose(value, expected[name], atol=1e-5, rtol=0)
        assert value.std() > 1e-3
    if strategy != "ms-sr@fc":
        side_by_side = np.concatenate([found[f"embedding_{s}"] for s in network.sources], axis=1)
        np.testing.assert_array_equal(found["embedding"], side_by_side)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_embed_track_gives_mean_and_deviation_over_segments(all_strategies, strategy, batch):
    runs, paths, outputs, _ = all_strategies
    network = runs[strategy].network
    found = outputs[f"{paths[strategy]}:{batch}:track_embedding"]
    assert found.shape == (batch, 512 * len(network.branches))
    for row, track, length in zip(found, INPUTS["tracks"], INPUTS["lengths"].tolist(), strict=False):
        np.testing.assert_allclose(row, brute_force(network, track, length), atol=1e-5, rtol=0)


def test_weights_are_stored_once(all_strategies):
    runs, paths, _, _ = all_strategies
    for strategy, trained in runs.items():
        weights = sum(int(np.prod(v.shape)) for v in trained.network.trunk.variables)
        stored = (paths[strategy] / "variables" / "variables.data-00000-of-00001").stat().st_size
        assert 4 * weights <= stored < 4 * weights + 60_000, strategy


def test_the_card_tells_how_to_call_the_export(small_run, small_export):
    card = read_card(small_export)
    assert card.branches == card.sources == ("year", "tag")
    assert (card.strategy, card.sample_rate_hz, card.segment_samples) == ("mss-cr", 22_050, 55_125)
    assert (card.segment_dimension, card.track_dimension) == (512, 1024)
    assert card.recipe == small_run.recipe.as_dict()
    assert card.run is None
    assert 0 <= card.check["largest_difference"] <= card.check["tolerance"] == 1e-4


@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_the_card_names_the_signatures_as_they_are(all_strategies, strategy):
    runs, paths, _, described = all_strategies
    trained = runs[strategy]
    card = make_card(trained.network, trained.recipe.audio, "x", Origin({}), 0.0, {})
    said = {
        name: {"inputs": sorted(signature["inputs"]), "outputs": signature["outputs"]}
        for name, signature in card.signatures.items()
    }
    assert said == described[str(paths[strategy])]


@pytest.fixture(scope="module")
def embed_track(small_signatures):
    import tensorflow as tf

    def embed(tracks, lengths):
        outputs = small_signatures["embed_track"](
            waveform=tf.constant(tracks), length_samples=tf.constant(lengths, tf.int32)
        )
        return outputs["embedding"].numpy()

    return embed


@pytest.mark.parametrize("length", [0, 1, 700, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT])
def test_what_lies_beyond_the_length_changes_nothing(small_run, embed_track, length):
    track = noise(2, 2 * SEGMENT + 100, 2)
    garbage = track.copy()
    garbage[length:] = np.resize(np.array([np.nan, np.inf, 1e30, -1], np.float32), garbage[length:].shape)
    clean = embed_track(track[np.newaxis, :length], [length])[0]
    found = embed_track(garbage[np.newaxis], [length])[0]
    np.testing.assert_allclose(found, clean, atol=1e-6)
    np.testing.assert_allclose(found, brute_force(small_run.network, track, length), atol=1e-5)


@pytest.mark.parametrize(("length", "same_as"), [(-5, 0), (SEGMENT + 10, SEGMENT), (2**31 - 1, SEGMENT)])
def test_lengths_outside_the_waveform_are_brought_to_its_ends(embed_track, length, same_as):
    track = noise(3, 1, SEGMENT, 2)
    np.testing.assert_allclose(embed_track(track, [length]), embed_track(track, [same_as]), atol=1e-6)


def test_tracks_of_more_segments_than_a_chunk_share_a_batch_with_short_ones(small_run, embed_track):
    tracks = noise(4, 3, 18 * SEGMENT + 9, 2) * np.linspace(0.1, 1, 18 * SEGMENT + 9)[:, np.newaxis]
    tracks = tracks.astype(np.float32)
    lengths = [18 * SEGMENT + 9, 40, 2 * SEGMENT]
    for row, track, length in zip(embed_track(tracks, lengths), tracks, lengths, strict=True):
        np.testing.assert_allclose(row, brute_force(small_run.network, track, length), atol=1e-5)


def test_an_empty_batch_gives_an_empty_result(embed_track):
    assert embed_track(np.zeros((0, 10, 2), np.float32), np.zeros(0, np.int32)).shape == (0, 1024)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_sample_that_is_no_number_gives_nan_for_its_segment_and_track_alone(small_signatures, value):
    import tensorflow as tf

    clean = np.random.default_rng(5).normal(0, 0.1, (2, 2 * SEGMENT, 2)).astype(np.float32)
    spoilt = clean.copy()
    spoilt[0, 9, 0] = value
    lengths = tf.constant([2 * SEGMENT] * 2, tf.int32)
    for name, cut, inputs in (
        ("serving_default", SEGMENT, {}),
        ("embed_track", 2 * SEGMENT, {"length_samples": lengths}),
    ):
        right = small_signatures[name](waveform=tf.constant(clean[:, :cut]), **inputs)
        found = small_signatures[name](waveform=tf.constant(spoilt[:, :cut]), **inputs)
        for output in right:
            assert np.isnan(found[output][0]).all(), (name, output)
            np.testing.assert_allclose(found[output][1], right[output][1], atol=1e-5)


def test_equal_segments_have_no_deviation(embed_track):
    track = np.tile(noise(5, SEGMENT, 2), (20, 1))
    assert embed_track(track[np.newaxis], [len(track)])[0, 512:].max() < 1e-6


def test_the_next_version_is_written_beside_the_others_with_the_runs_card(plain_run, tmp_path):
    run = RunDirectory(tmp_path / "run")
    write_json(run.card, {"scores": {"tag": 1.25}})
    export = tmp_path / "exported" / "small"
    for number in ("1", "4"):
        (export / number).mkdir(parents=True)
    (export / "1" / "saved_model.pb").write_text("kept")
    version = export_run(replace(plain_run, run=run), tmp_path / "exported", "small")
    assert version == export / "5"
    configuration = ["batching_parameters.txt", "card.json", "models.config"]
    assert sorted(path.name for path in export.iterdir()) == ["1", "4", "5", *configuration]
    assert (export / "1" / "saved_model.pb").read_text() == "kept"
    assert read_card(version).run == {"scores": {"tag": 1.25}}


def test_concurrent_exporters_get_a_number_each(tmp_path):
    export = tmp_path / "exported"
    export.mkdir()
    written = []
    for number in range(24):
        folder = tmp_path / f"written-{number}"
        folder.mkdir()
        (folder / "saved_model.pb").write_text(str(number))
        written.append(folder)
    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(lambda folder: _claim(ServingFolder(export), folder, None), written))
    assert sorted(int(path.name) for path in claimed) == list(range(1, 25))
    assert [(path / "saved_model.pb").read_text() for path in claimed] == [str(n) for n in range(24)]


def test_a_model_that_gives_nan_is_not_exported(make_run, tmp_path):
    broken = make_run("ss-r", ("tag",))
    broken.network.trunk.variables[0].assign(np.full(broken.network.trunk.variables[0].shape, np.nan))
    with pytest.raises(ExportError, match="NaN"):
        export_run(broken, tmp_path / "new", "broken")
    assert not (tmp_path / "new").exists()


def test_an_export_of_other_weights_is_told_from_the_model(make_run, small_signatures, with_all_layers):
    other = with_all_layers(make_run(seed=1).network)
    with pytest.raises(ExportError, match="differs from the trained model") as caught:
        largest_difference(small_signatures, other, SEGMENT)
    assert "\n" not in str(caught.value)


def test_an_export_of_other_branches_is_told_from_the_model(make_run, small_signatures):
    other = make_run("ms-sr@fc").network
    with pytest.raises(ExportError, match="serving_default gives"):
        largest_difference(small_signatures, other, SEGMENT)


def test_a_malformed_card_of_the_run_stops_the_export(small_run, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    run.card.write_text("{")
    with pytest.raises(DataError, match=r"card\.json"):
        export_run(replace(small_run, run=run), tmp_path / "exported", "small")
    assert not (tmp_path / "exported").exists()


def test_a_folder_that_cannot_be_made_is_told_in_one_line(small_run, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match="cannot write there") as caught:
        export_run(small_run, tmp_path / "file", "small")
    assert "\n" not in str(caught.value)


def test_what_a_run_was_trained_on_goes_with_its_export(plain_run, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.root.mkdir()
    assert not trained_on(run.root).exists()
    write_identities(run.identities, Identities.of([Identity(b"recorded", np.zeros(50, np.uint16))]))
    version = export_run(replace(plain_run, run=run), tmp_path / "exported", "small")
    path = trained_on(tmp_path / "exported" / "small")
    assert path == identities_path(version) and path.read_bytes() == run.identities.read_bytes()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_card(version).files["assets.extra/identities.npz"] == digest
    run.model.touch()
    assert trained_on(run.model) == run.identities
