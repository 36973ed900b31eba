import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
import soxr

import kerasrep
from kerasrep.constants import SAMPLE_RATE_HZ, SEGMENT_SAMPLES
from kerasrep.embedding.embedder import Embedder, load
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.representations import open_representation, open_representations
from kerasrep.errors import DataError, ExportError, KerasrepError, RecipeError
from kerasrep.storage import export_directory as starter
from kerasrep.storage.export_directory import card_path


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


def by_hand(network, stereo):
    """Mean and deviation over the segments of float32 [samples, 2] at the model's rate."""
    n_segments = -(-len(stereo) // SEGMENT_SAMPLES)
    padded = np.zeros((n_segments * SEGMENT_SAMPLES, 2), np.float32)
    padded[: len(stereo)] = stereo
    outputs = network.embedder(padded.reshape(n_segments, SEGMENT_SAMPLES, 2), training=False)
    features = outputs["embedding"].numpy()
    return np.concatenate([features.mean(axis=0), features.std(axis=0)])


def test_a_track_of_many_batches_is_embedded_as_the_export_does(small_export, small_model):
    import tensorflow as tf

    track = noise(0, 17 * SEGMENT_SAMPLES + 4000, 2) * np.linspace(0, 1, 17 * SEGMENT_SAMPLES + 4000)[:, None]
    embed_track = tf.saved_model.load(str(small_export)).signatures["embed_track"]
    expected = embed_track(
        waveform=tf.constant(track[np.newaxis], tf.float32),
        length_samples=tf.constant([len(track)], tf.int32),
    )["embedding"][0]
    found = small_model.embed(track, SAMPLE_RATE_HZ)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


def test_every_form_of_a_model_gives_the_same(small_run, small_export, small_model):
    track = noise(1, SEGMENT_SAMPLES + 5000, 2)
    expected = by_hand(small_run.network, track)
    for path in (small_export, small_export.parent, small_run.run.root, small_run.run.model):
        model = kerasrep.load(str(path))
        assert model.branches == ("year", "tag")
        assert model.columns == small_model.columns
        assert (model.sample_rate_hz, model.dimension) == (22_050, 1024)
        np.testing.assert_allclose(model.embed(track, SAMPLE_RATE_HZ), expected, atol=1e-5, rtol=0)


def test_a_keras_file_of_one_shared_branch_is_read(make_run, tmp_path):
    shared = make_run("ms-sr@fc")
    shared.network.embedder.save(tmp_path / "copied.keras")
    model = load(tmp_path / "copied.keras")
    assert model.branches == ("shared",)
    assert model.dimension == 512
    track = noise(2, 9000, 2)
    found = model.embed(track, SAMPLE_RATE_HZ)
    np.testing.assert_allclose(found, by_hand(shared.network, track), atol=1e-5)


def test_columns_name_the_values(small_run, small_model):
    track = noise(3, 2 * SEGMENT_SAMPLES, 2)
    outputs = small_run.network.embedder(track.reshape(2, SEGMENT_SAMPLES, 2), training=False)
    found = dict(zip(small_model.columns, small_model.embed(track, SAMPLE_RATE_HZ), strict=True))
    assert found["mean/year/0"] == pytest.approx(np.mean(outputs["embedding_year"][:, 0]), abs=1e-5)
    assert found["mean/tag/255"] == pytest.approx(np.mean(outputs["embedding_tag"][:, 255]), abs=1e-5)
    assert found["sd/tag/17"] == pytest.approx(np.std(outputs["embedding_tag"][:, 17]), abs=1e-5)
    assert small_model.columns[512] == "sd/year/0"


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 192_000, 11_025.5])
def test_other_rates_are_resampled(small_run, small_model, rate_hz):
    track = noise(4, int(3 * rate_hz), 2)
    expected = by_hand(small_run.network, soxr.resample(track, rate_hz, SAMPLE_RATE_HZ, quality="HQ"))
    np.testing.assert_allclose(small_model.embed(track, rate_hz), expected, atol=1e-4)


def test_mono_is_doubled(small_run, small_model):
    mono = noise(5, SEGMENT_SAMPLES)
    expected = by_hand(small_run.network, np.stack([mono, mono], axis=1))
    np.testing.assert_allclose(small_model.embed(mono, SAMPLE_RATE_HZ), expected, atol=1e-5)
    np.testing.assert_allclose(small_model.embed(mono[:, np.newaxis], SAMPLE_RATE_HZ), expected, atol=1e-5)
    np.testing.assert_allclose(small_model.embed(mono.tolist(), SAMPLE_RATE_HZ), expected, atol=1e-5)


def test_more_than_two_channels_of_unknown_places_are_mixed_with_their_power(small_run, small_model):
    six = noise(6, SEGMENT_SAMPLES, 6)
    mono = six.sum(axis=1) / np.sqrt(6)
    expected = by_hand(small_run.network, np.stack([mono, mono], axis=1))
    np.testing.assert_allclose(small_model.embed(six, SAMPLE_RATE_HZ), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integers_are_scaled_to_one(small_model, dtype):
    whole = (noise(7, 9000, 2) * 2**14).astype(np.int16)
    integers = whole.astype(dtype) * (1 if dtype is np.int16 else 2**16)
    expected = small_model.embed(whole / 2.0**15, SAMPLE_RATE_HZ)  # float64
    np.testing.assert_allclose(small_model.embed(integers, SAMPLE_RATE_HZ), expected, atol=1e-6)


def test_one_sample_is_a_segment(small_model):
    assert np.isfinite(small_model.embed(np.ones(1, np.float32), 192_000)).all()


@pytest.mark.parametrize(
    ("waveform", "rate_hz", "said"),
    [
        (np.zeros(0, np.float32), 22_050, "no samples"),
        (np.zeros((5, 0), np.float32), 22_050, "no samples"),
        (np.float32(1), 22_050, "shape []"),
        (np.zeros((1, 5, 2), np.float32), 22_050, "[samples, channels]"),
        (np.zeros((2, 44_100), np.float32), 22_050, "transpose"),
        (np.zeros(5, np.uint8), 22_050, "uint8"),
        (np.zeros(5, np.complex64), 22_050, "complex64"),
        (["a"], 22_050, "type"),
        ([[1.0], [1.0, 2.0]], 22_050, "not an array"),
        (np.array([0, np.nan]), 22_050, "NaN or infinite"),
        (np.array([0, 1e300]), 22_050, "NaN or infinite"),
        (np.r_[np.zeros(200_000), np.inf], 44_100, "NaN or infinite"),
        (np.zeros(5), 0, "sample_rate_hz"),
        (np.zeros(5), -22_050, "sample_rate_hz"),
        (np.zeros(5), np.nan, "sample_rate_hz"),
        (np.zeros(5), "22050", "sample_rate_hz"),
        (np.zeros(5), True, "sample_rate_hz"),
        (np.zeros(5), None, "sample_rate_hz"),
    ],
)
def test_what_is_no_waveform_is_told_in_one_line(waveform, rate_hz, said):
    zeros = SegmentModel(lambda segments: np.zeros((len(segments), 256), np.float32), 22_050, 100, ("tag",))
    with pytest.raises(DataError) as caught:
        Embedder(zeros).embed(waveform, rate_hz)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def missing(folder):
    return folder / "none"


def text_file(folder):
    (folder / "model.h5").write_text("no model")
    return folder / "model.h5"


def empty_folder(folder):
    return folder


def text_as_keras_file(folder):
    (folder / "bad.keras").write_text("no model")
    return folder / "bad.keras"


def other_keras_file(folder):
    inputs = keras.Input((4,))
    keras.Model(inputs, keras.layers.Dense(2)(inputs)).save(folder / "other.keras")
    return folder / "other.keras"


def unfinished_run(folder):
    (folder / "recipe.yaml").write_text("strategy: ss-r\nsources: [tag]\n")
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing, "does not exist; give an export"),
        (text_file, "is not a model; give an export"),
        (empty_folder, "holds no model; give an export"),
        (text_as_keras_file, "is not a usable .keras file"),
        (other_keras_file, "is not the model of a kerasrep run"),
        (unfinished_run, "has no trained weights yet"),
    ],
)
def test_what_is_no_model_is_told_in_one_line(tmp_path, make, said):
    with pytest.raises(KerasrepError) as caught:
        load(make(tmp_path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda version: (version / "saved_model.pb").write_bytes(b"\xff" * 100), "is not the one"),
        (lambda version: (version / "variables" / "variables.index").unlink(), "is missing"),
        (lambda version: card_path(version).unlink(), "card.json"),
        (lambda version: card_path(version).write_text('{"format": 1}'), "card.json"),
    ],
)
def test_a_damaged_export_is_told_in_one_line(tmp_path, small_export, damage, said):
    version = shutil.copytree(small_export, tmp_path / "1")
    damage(version)
    with pytest.raises(ExportError) as caught:
        load(tmp_path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_of_other_branches_is_refused(tmp_path, small_export):
    version = shutil.copytree(small_export, tmp_path / "1")
    card = card_path(version).read_text()
    card_path(version).write_text(card.replace('"branches": [\n    "year",\n', '"branches": [\n'))
    with pytest.raises(ExportError, match="512 values a segment, its card names 1 branches"):
        load(version)


def test_no_path_and_the_bare_name_are_the_trunk_that_comes_along(
    small_export, tmp_path, monkeypatch, small_model
):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / starter.STARTER).symlink_to(small_export.parent)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(starter, "STARTER_PLACES", (tmp_path / "exported",))
    track = noise(11, 9000, 2)
    expected = small_model.embed(track, SAMPLE_RATE_HZ)
    opened = open_representations(["starter", "random"])
    for model in (load(), load("starter"), opened[0], open_representation("starter:last")):
        np.testing.assert_array_equal(model.embed(track, SAMPLE_RATE_HZ), expected)
    assert [one.name for one in opened] == [f"{small_export.parent.name}/1", "random"]


def test_it_says_what_it_is(small_model, small_export):
    said = repr(small_model)
    assert (small_model.sources, small_model.layers) == (("year", "tag"), "last")
    for part in (str(small_export), "sources year, tag", "layers last", "dimension 1,024", "22,050 Hz"):
        assert part in said


def test_of_a_shared_network_the_sources_are_those_that_it_learnt_from(make_run):
    shared = load(make_run("ms-sr@fc").run.root)
    assert (shared.branches, shared.sources) == (("shared",), ("year", "tag"))


def test_some_branches_alone_are_those_of_all(small_export, small_model):
    track = noise(12, 9000, 2)
    tag = load(small_export, sources=["tag"])
    whole = dict(zip(small_model.columns, small_model.embed(track, SAMPLE_RATE_HZ), strict=True))
    assert (tag.sources, tag.dimension) == (("tag",), 512)
    found = tag.embed(track, SAMPLE_RATE_HZ)
    np.testing.assert_allclose(found, [whole[column] for column in tag.columns], atol=1e-6)
    with pytest.raises(RecipeError, match="source 'lyrics': the model has no such branch"):
        load(small_export, sources=["lyrics"])


def test_embeddings_over_time_are_those_of_the_segments(small_model, tmp_path):
    track = noise(13, 2 * SEGMENT_SAMPLES + 100, 2)
    hop_samples = SEGMENT_SAMPLES // 2
    found = small_model.embed_timed(track, SAMPLE_RATE_HZ, hop_samples / SAMPLE_RATE_HZ)
    assert found.embeddings.shape == (len(found.start_seconds), 512)
    for number, second in enumerate(found.start_seconds):
        assert second == pytest.approx(number * hop_samples / SAMPLE_RATE_HZ)
        piece = track[number * hop_samples :][:SEGMENT_SAMPLES]
        alone = small_model.embed(piece, SAMPLE_RATE_HZ)[:512]  # the mean of one segment is that segment
        np.testing.assert_allclose(found.embeddings[number], alone, atol=1e-5)
    assert found.columns[0] == "year/0"
    assert f"{len(found.start_seconds)} segments of 2.5 s, 512 dimensions" in repr(found)
    whole = small_model.embed_timed(track, SAMPLE_RATE_HZ)
    np.testing.assert_allclose(
        whole.embeddings.mean(axis=0), small_model.embed(track, SAMPLE_RATE_HZ)[:512], atol=1e-5
    )
    soundfile.write(tmp_path / "a.wav", track, SAMPLE_RATE_HZ, subtype="FLOAT")
    np.testing.assert_allclose(
        small_model.embed_file_timed(tmp_path / "a.wav").embeddings, whole.embeddings, atol=1e-5
    )
    with pytest.raises(RecipeError, match="hop of 0 s"):
        small_model.embed_timed(track, SAMPLE_RATE_HZ, 0)


def test_files_that_cannot_be_used_are_named_and_none_at_all_is_an_error(small_model, small_export, tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(14, 9000, 2), SAMPLE_RATE_HZ)
    found = small_model.embed_files([tmp_path / "a.wav", tmp_path / "missing.ogg"])
    assert [path.name for path in found.paths] == ["a.wav"]
    np.testing.assert_allclose(found.embeddings[0], small_model.embed_file(tmp_path / "a.wav"), atol=1e-5)
    assert [one.path.name for one in found.bad] == ["missing.ogg"]
    assert repr(found) == "<kerasrep Embeddings: files 1; dimensions 1,024; skipped 1>"
    with pytest.raises(DataError, match=r"no file could be embedded, 1 skipped: .*missing\.ogg"):
        kerasrep.embed(small_export, [tmp_path / "missing.ogg"])
    with pytest.raises(DataError, match="no file is named"):
        small_model.embed_files([])


def test_one_file_by_itself_is_not_taken_for_its_letters(small_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.wav", "b.wav"):
        soundfile.write(name, np.full((SAMPLE_RATE_HZ, 2), 0.1), SAMPLE_RATE_HZ)
    assert small_model.embed_files("a.wav").paths == (Path("a.wav"),)
    assert small_model.embed_files(Path("b.wav")).paths == (Path("b.wav"),)
