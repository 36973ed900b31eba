"""`--layers` through exports, loading, tables, search, scikit-learn, HEAR, evaluation and the client."""

import json

import numpy as np
import pytest
import soundfile

from kerasrep import constants
from kerasrep.cli import command, embed, evaluate, export, search
from kerasrep.embedding import AudioEmbedder, hear, load
from kerasrep.embedding.catalogue.layout import About
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.representations import open_representation, open_representations, path_and_layers
from kerasrep.errors import ExportError, RecipeError
from kerasrep.serving.export import export_run
from kerasrep.storage.export_directory import read_card
from kerasrep.storage.segment_vector import layers_text, parse_layers

RATE_HZ = constants.SAMPLE_RATE_HZ
#: Pooled values of a trunk of width 0.25, all blocks.
POOLED = 2 * (4 + 8 + 16 + 16 + 32 + 64 + 64)


@pytest.fixture(scope="module")
def audio(tmp_path_factory):
    """Four files of up to three segments."""
    folder = tmp_path_factory.mktemp("audio")
    for number in range(4):
        samples = np.random.default_rng(number).normal(0, 0.1, ((2 * number + 1) * RATE_HZ, 2))
        soundfile.write(folder / f"{number}.wav", samples, RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture(scope="module")
def track():
    return np.random.default_rng(9).normal(0, 0.1, (3 * RATE_HZ, 2)).astype(np.float32)


def run(module, *arguments):
    return command.run(module.main, module.PROG, [str(argument) for argument in arguments])


@pytest.mark.parametrize("form", ["export", "run", "keras file"])
def test_all_layers_come_behind_the_embedding(form, small_run, small_export, track):
    path = {"export": small_export, "run": small_run.run.root, "keras file": small_run.run.model}[form]
    last, everything, some = load(path), load(path, layers="all"), load(path, layers="conv5,conv3")
    assert last.dimension == 1024 and everything.dimension == 1024 + 2 * 2 * POOLED
    means, deviations = np.split(everything.embed(track, RATE_HZ), 2)
    np.testing.assert_allclose(
        np.concatenate([means[:512], deviations[:512]]), last.embed(track, RATE_HZ), atol=1e-5
    )
    assert everything.columns[512] == "mean/year/conv1/mean/0"
    assert everything.columns[-1] == "sd/tag/conv7/max/63"
    found = dict(zip(everything.columns, everything.embed(track, RATE_HZ), strict=True))
    assert some.columns[0] == "mean/year/conv3/mean/0" and len(some.columns) == some.dimension
    expected = [found[column] for column in some.columns]
    np.testing.assert_allclose(some.embed(track, RATE_HZ), expected, atol=1e-5)


@pytest.mark.parametrize("trunk", ["published", "residual"])
def test_a_saved_model_gives_the_layers_of_segments_and_tracks(trunk, make_run, track, tmp_path):
    import tensorflow as tf

    trained = make_run("ms-cr@6", model={"width": 0.0625, "trunk": trunk})
    version = export_run(trained, tmp_path, "deep", layers="conv2,conv6")  # compares to within 1e-4
    card = read_card(version)
    assert [(p.layer, p.branch) for p in card.layers] == [
        ("conv2", "shared"),
        ("conv6", "year"),
        ("conv6", "tag"),
    ]
    signatures = tf.saved_model.load(str(version)).signatures
    width = {piece.output: piece.width for piece in card.layers}
    segments = signatures["serving_default"](waveform=track[None, : constants.SEGMENT_SAMPLES])
    assert segments["layer_conv2"].shape == (1, width["layer_conv2"])
    both = np.concatenate([segments["layer_conv6_year"], segments["layer_conv6_tag"]], axis=1)
    np.testing.assert_array_equal(segments["layer_conv6"], both)
    for name, outputs in card.signatures.items():
        assert set(outputs["outputs"]) == set(signatures[name].structured_outputs)
    of_track = signatures["embed_track"](waveform=track[None], length_samples=tf.constant([len(track)]))
    assert set(of_track) == {"embedding", "layer_conv2", "layer_conv6"}
    embedder = load(version, layers=["conv6"])
    np.testing.assert_allclose(embedder.embed(track, RATE_HZ), of_track["layer_conv6"][0], atol=1e-4)
    np.testing.assert_allclose(load(version).embed(track, RATE_HZ), of_track["embedding"][0], atol=1e-4)
    with pytest.raises(ExportError, match="conv3: the model gives last, conv2, conv6 alone; export the run"):
        load(version, layers="last,conv3")


def test_an_export_without_layers_says_to_export_again(plain_run, audio, track, tmp_path, capsys):
    assert run(export, plain_run.run.root, "--directory", tmp_path, "--name", "old", "--layers", "last") == 0
    card = json.loads((tmp_path / "old" / "1" / "assets.extra" / "card.json").read_text())
    assert set(card["signatures"]["serving_default"]["outputs"]) == {"embedding"}
    np.testing.assert_allclose(
        load(tmp_path / "old").embed(track, RATE_HZ),
        load(plain_run.run.root).embed(track, RATE_HZ),
        atol=1e-5,
    )
    capsys.readouterr()
    code = run(embed, audio, "-o", tmp_path / "x.npz", "--model", tmp_path / "old", "--layers", "all")
    assert code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "the model gives last alone; export the run again" in line


def test_a_table_of_all_layers_can_be_read_and_searched(small_export, audio, tmp_path, capsys):
    output = tmp_path / "all.parquet"
    assert run(embed, audio, "-o", output, "--model", small_export, "--layers", "all") == 0
    table = read_embeddings(output)
    embedder = load(small_export, layers="all")
    assert table.about.layers == "all" and table.columns == embedder.columns
    expected = [embedder.embed_file(audio / f"{number}.wav") for number in range(4)]
    np.testing.assert_allclose(table.embeddings, expected, atol=1e-5)
    assert run(search, output, audio / "2.wav", "-n", 2) == 0
    assert "nearest to" in capsys.readouterr().out
    output = tmp_path / "tag.npz"
    arguments = ("--sources", "tag", "--layers", "conv3", "--pool", "none")
    assert run(embed, audio, "-o", output, "--model", small_export, *arguments) == 0
    table = read_embeddings(output)
    assert table.columns == tuple(f"tag/conv3/{of}/{n}" for of in ("mean", "max") for n in range(16))
    assert run(search, output, audio / "2.wav") == 0


def test_tables_of_old_have_the_last_layer(small_export, audio, tmp_path):
    output = tmp_path / "x.npz"
    assert run(embed, audio, "-o", output, "--model", small_export) == 0
    about = json.loads(read_embeddings(output).about.to_json())
    assert about.pop("layers") == "last"
    assert About.from_json(json.dumps(about)).layers == "last"


def test_scikit_learn_and_hear_take_layers(small_export, audio, track):
    paths = [str(audio / "0.wav"), str(audio / "3.wav")]
    expected = load(small_export, layers="last,conv7")
    embedder = AudioEmbedder(small_export, layers="last,conv7")
    rows = embedder.fit_transform(paths)
    np.testing.assert_allclose(rows, [expected.embed_file(path) for path in paths], atol=1e-5)
    assert embedder.get_feature_names_out().tolist() == list(expected.columns)
    model = hear.load_model(f"{small_export}:last,conv7")
    mono = track[None, :, 0]
    assert model.timestamp_embedding_size == expected.dimension // 2
    np.testing.assert_allclose(
        hear.get_scene_embeddings(mono, model)[0], expected.embed(mono[0], RATE_HZ), atol=1e-5
    )
    assert hear.get_timestamp_embeddings(mono, model)[0].shape[-1] == model.timestamp_embedding_size


def test_representations_are_told_apart_by_their_layers(small_export):
    plain, layered, drawn = open_representations([f"{small_export}:last", f"{small_export}:all", "random"])
    assert layered.name == f"{plain.name}:all" and layered.fingerprint.startswith(plain.fingerprint)
    assert layered.fingerprint != plain.fingerprint == open_representation(str(small_export)).fingerprint
    assert drawn.name == "random"
    assert layered.dimension == 1024 + 4 * POOLED
    _, drawn = open_representations([f"{small_export}:conv3", "random:2"])
    assert drawn.name == "random:2:conv3"
    assert drawn.embed(np.zeros(100), RATE_HZ).shape == (2 * 2 * 2 * 16,)


def test_a_colon_in_a_path_is_no_layer(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a:all").mkdir()
    assert path_and_layers(str(tmp_path / "a:all")) == (tmp_path / "a:all", None)
    assert path_and_layers(str(tmp_path / "a:conv3,last")) == (tmp_path / "a", "last,conv3")
    with pytest.raises(RecipeError, match="layers 'al': give last, all, or some of"):
        path_and_layers(str(tmp_path / "a:al"))


def test_all_layers_are_evaluated(small_export, audio, tmp_path, capsys):
    table = "\n".join(["path,label"] + [f"{n}.wav,{'ab'[n % 2]}" for n in range(4)])
    (tmp_path / "kinds.csv").write_text(table)
    task = f"{{name: kinds, kind: classification, table: {tmp_path / 'kinds.csv'}, audio: {audio}}}"
    (tmp_path / "recipe.yaml").write_text(f"strategy: ss-r\nsources: [tag]\ntasks: [{task}]\n")
    common = ("--recipe", tmp_path / "recipe.yaml", "--tasks", "kinds", "--folds", 2)
    code = run(evaluate, small_export, "mfcc", *common, "--layers", "all", "-o", tmp_path / "results")
    assert code == 0, capsys.readouterr().err
    found = json.loads((tmp_path / "results" / "scores.json").read_text())["evaluations"]
    assert {one["representation"] for one in found} == {"small/1:all", "mfcc"}
    code = run(evaluate, small_export, *common, "--layers", "conv9", "-o", tmp_path / "other")
    assert code == 2


@pytest.mark.parametrize("wrong", ["", "conv8", "last,lost", ["conv3", "x"], 3, [3], ","])
def test_unknown_layers_are_refused(wrong, small_export):
    with pytest.raises(RecipeError, match="layers"):
        load(small_export, layers=wrong)


def test_layers_have_one_order_and_one_spelling():
    assert parse_layers("conv5, last,conv3") == ("last", "conv3", "conv5")
    assert parse_layers("all") == ("last", *(f"conv{number}" for number in range(1, 8)))
    assert layers_text(parse_layers("conv7,all")) == "all"
