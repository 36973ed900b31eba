"""`kerasrep-import`: what it exports, and what it refuses without running or leaving anything."""

import functools
import io
import os
import pickle
import subprocess
import sys
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from kerasrep.cli import command, embed, export, import_checkpoint
from kerasrep.embedding.embedder import load
from kerasrep.errors import DataError
from kerasrep.model.reference import from_state_dict
from kerasrep.model.reference_checkpoint import read_checkpoint
from kerasrep.model.restore import load_scaler
from kerasrep.model.strategies import Scaler
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.export_directory import read_card

SEGMENT = 55_125
TASKS = ("self_", "tag")

# As a server loads it: neither kerasrep nor kapre, and nothing but the arrays.
LOADER = """
import sys
import numpy as np
import tensorflow as tf

inputs = np.load("inputs.npz")
signatures = tf.saved_model.load(sys.argv[1]).signatures
outputs = signatures["serving_default"](waveform=tf.constant(inputs["segments"]))
tracks = signatures["embed_track"](
    waveform=tf.constant(inputs["tracks"]), length_samples=tf.constant(inputs["lengths"])
)
assert not {m for m in sys.modules if m.partition(".")[0] in {"kerasrep", "kapre", "torch"}}
np.savez("outputs.npz", track=tracks["embedding"], **outputs)
"""


def shapes(tasks, branch_at):
    """Keys and shapes of a checkpoint, from the issue's table."""
    sizes = [(16, 2, 5), (32, 16, 3), (64, 32, 3), (64, 64, 3), (128, 64, 3), (256, 128, 3), (256, 256, 1)]
    n_shared = {"null": 0, "2": 1, "4": 3, "6": 5, "fc": 7}[branch_at]
    found = {}

    def layer(key, *shape):
        found[f"{key}.weight"], found[f"{key}.bias"] = shape, shape[:1]

    def batch_norm(key, size):
        layer(key, size)
        found.update({f"{key}.running_mean": (size,), f"{key}.running_var": (size,)})
        found[f"{key}.num_batches_tracked"] = ()

    def part(key, blocks, with_fc):
        for i, (outputs, inputs, kernel) in enumerate(blocks):
            layer(f"{key}.{i}.conv", outputs, inputs, kernel, kernel)
            batch_norm(f"{key}.{i}.bn", outputs)
        if with_fc:
            layer(f"{key}.{len(blocks) + 1}", 256, 256)
            batch_norm(f"{key}.{len(blocks) + 2}", 256)

    part("shared", sizes[:n_shared], branch_at == "fc")
    for t, task in enumerate(tasks):
        if branch_at != "fc":
            part(f"branches_feature.{t}", sizes[n_shared:], True)
        if task == "self_":
            layer(f"branches_infer.{t}.0", 128, 512)
            batch_norm(f"branches_infer.{t}.1", 128)
            layer(f"branches_infer.{t}.4", 2, 128)
        else:
            layer(f"branches_infer.{t}.0", 50, 256)
    return found


def random_arrays(tasks=TASKS, branch_at="4", seed=0):
    rng = np.random.default_rng(seed)
    state = {}
    for key, shape in shapes(tasks, branch_at).items():
        if key.endswith("tracked"):
            state[key] = np.array(3)
        elif key.endswith("running_var"):
            state[key] = rng.uniform(0.5, 1.5, shape).astype(np.float32)
        else:
            scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.3
            state[key] = rng.normal(0.5 if len(shape) == 1 else 0, scale, shape).astype(np.float32)
    return state


def write_npz(path, state, tasks=TASKS, branch_at="4", **more):
    np.savez(path, tasks=np.array(tasks), branch_at=np.array(branch_at), **state, **more)
    return path


@pytest.fixture(scope="module")
def scaler(tmp_path_factory):
    path = tmp_path_factory.mktemp("scaler") / "scaler.npz"
    np.savez(path, mean=np.linspace(-30, -60, 128), sd=np.linspace(9, 16, 128))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "weights.npz"
    return write_npz(path, random_arrays(), n_outs=50)


def run_import(capsys, *arguments):
    code = command.run(import_checkpoint.main, import_checkpoint.PROG, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


@pytest.fixture(scope="module")
def exported(checkpoint, scaler, tmp_path_factory):
    """A version of an export made by the command; do not write to it."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "exported" / "theirs" / "3").mkdir(parents=True)
    (folder / "exported" / "theirs" / "3" / "saved_model.pb").write_text("kept")
    arguments = [checkpoint, "-o", folder / "exported" / "theirs", "--scaler", scaler]
    assert command.run(import_checkpoint.main, import_checkpoint.PROG, list(map(str, arguments))) == 0
    return folder / "exported" / "theirs" / "4"


def noise(seed, *shape):
    return np.random.default_rng(seed).normal(0, 0.2, shape).astype(np.float32)


@pytest.fixture(scope="module")
def reference(checkpoint, scaler):
    """The Keras model, fed by a front end that is not the export's own."""
    return from_state_dict(random_arrays(), TASKS, 4), load_scaler(scaler, 128)


def embeddings_by_librosa(reference, segments):
    """Embeddings [segments, 512] of a Keras trunk on librosa's spectrograms."""
    import librosa

    network, scaler = reference
    mels = []
    for segment in segments:
        # As the published code calls it, on a recording of one segment.
        power = [
            librosa.feature.melspectrogram(y=channel, sr=22_050, n_fft=1024, hop_length=256).T
            for channel in segment.T
        ]
        joint = np.stack(power, axis=-1)
        db = librosa.power_to_db(joint.reshape(len(joint), -1)).reshape(joint.shape)
        mels.append((db - scaler.mean[:, np.newaxis]) / scaler.sd[:, np.newaxis])
    found = network.trunk(np.stack(mels).astype(np.float32))
    return np.concatenate([found["self"].numpy(), found["tag"].numpy()], axis=1)


def test_a_plain_tensorflow_process_gets_the_embeddings_of_the_keras_model(exported, reference, tmp_path):
    segments, tracks = noise(0, 2, SEGMENT, 2), noise(1, 1, 2 * SEGMENT + 500, 2)
    np.savez(
        tmp_path / "inputs.npz", segments=segments, tracks=tracks, lengths=np.array([2 * SEGMENT], np.int32)
    )
    done = subprocess.run(
        [sys.executable, "-c", LOADER, str(exported)],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "outputs.npz") as loaded:
        found = {name: loaded[name] for name in loaded.files}
    embeddings = {name for name in found if not name.startswith("layer_")}
    assert embeddings == {"embedding", "embedding_self", "embedding_tag", "track"}
    expected = embeddings_by_librosa(reference, segments)
    assert expected.std() > 0.05
    # Front ends agree within 2e-3 dB, which is 2e-4 of a deviation.
    np.testing.assert_allclose(found["embedding"], expected, atol=2e-3)
    np.testing.assert_array_equal(found["embedding"][:, :256], found["embedding_self"])
    np.testing.assert_array_equal(found["embedding"][:, 256:], found["embedding_tag"])
    of_track = embeddings_by_librosa(reference, tracks[0, : 2 * SEGMENT].reshape(2, SEGMENT, 2))
    wanted = np.concatenate([of_track.mean(0), of_track.std(0)])
    np.testing.assert_allclose(found["track"][0], wanted, atol=2e-3)


def test_the_export_is_loaded_and_embeds_files_like_one_of_our_own(exported, reference, tmp_path, capsys):
    import soundfile

    audio = noise(2, 2 * SEGMENT, 2)
    soundfile.write(tmp_path / "a.wav", audio, 22_050, subtype="FLOAT")
    assert (
        command.run(
            embed.main,
            embed.PROG,
            [str(tmp_path / "a.wav"), "--model", str(exported.parent), "-o", str(tmp_path / "e.npz")],
        )
        == 0
    ), capsys.readouterr().err
    of_segments = embeddings_by_librosa(reference, audio.reshape(2, SEGMENT, 2))
    expected = np.concatenate([of_segments.mean(0), of_segments.std(0)])
    with np.load(tmp_path / "e.npz") as table:
        np.testing.assert_allclose(table["embeddings"][0], expected, atol=2e-3)
        assert table["columns"][[0, 256, 1023]].tolist() == ["mean/self/0", "mean/tag/0", "sd/tag/255"]
    embedder = load(exported)
    assert embedder.branches == ("self", "tag")
    np.testing.assert_allclose(embedder.embed(audio, 22_050), expected, atol=2e-3)


def test_the_export_converts_for_other_runtimes(exported, reference, tmp_path, capsys):
    import tensorflow as tf

    arguments = [exported, "--format", "tflite", "--directory", tmp_path]
    assert command.run(export.main, export.PROG, list(map(str, arguments))) == 0, capsys.readouterr().err
    interpreter = tf.lite.Interpreter(model_path=str(tmp_path / "theirs/runtimes/4/model.tflite"))
    audio = noise(2, 2 * SEGMENT, 2)
    of_segments = embeddings_by_librosa(reference, audio.reshape(2, SEGMENT, 2))
    expected = np.concatenate([of_segments.mean(0), of_segments.std(0)])
    found = interpreter.get_signature_runner("embed_track")(waveform=audio)["vector"]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_the_card_says_where_the_weights_came_from(exported, checkpoint, scaler):
    import hashlib

    card = read_card(exported)
    assert (card.name, card.strategy, card.sources) == ("theirs", "ms-cr@4", ("self", "tag"))
    assert card.run is None
    assert card.imported["checkpoint"] == {
        "file": "weights.npz",
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
    }
    assert card.imported["scaler"]["sha256"] == hashlib.sha256(scaler.read_bytes()).hexdigest()
    assert card.imported["tasks"] == ["self_", "tag"]
    assert card.imported["branch_at"] == "4"
    recipe = Recipe.model_validate(card.recipe)  # what baselines on the same network are built from
    assert (recipe.strategy, recipe.sources) == ("ms-cr@4", ("self", "tag"))
    assert 0 <= card.check["largest_difference"] <= card.check["tolerance"]


def test_the_next_free_version_is_written_and_none_is_touched(exported):
    assert sorted(path.name for path in exported.parent.iterdir() if path.is_dir()) == ["3", "4"]
    assert (exported.parent / "3" / "saved_model.pb").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.parametrize("branch_at", ["null", "2", "4", "6", "fc"])
def test_every_branch_point_is_imported_without_standardisation_too(tmp_path, capsys, monkeypatch, branch_at):
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path / "c.npz", random_arrays(branch_at=branch_at), branch_at=branch_at)
    code, out, err = run_import(capsys, "c.npz", "-o", "exported/x", "--scaler", "none")
    assert (code, err) == (0, [])
    assert out[0].startswith("imported exported/x/1: ms")
    assert read_card(tmp_path / "exported" / "x" / "1").imported["scaler"] is None
    audio = noise(4, 2 * SEGMENT, 2)
    plain = (from_state_dict(random_arrays(branch_at=branch_at), TASKS, branch_at), Scaler.identity(128))
    of_segments = embeddings_by_librosa(plain, audio.reshape(2, SEGMENT, 2))
    if branch_at == "fc":
        of_segments = of_segments[:, :256]
    expected = np.concatenate([of_segments.mean(0), of_segments.std(0)])
    assert command.run(export.main, export.PROG, ["exported/x", "--format", "keras"]) == 0
    for model in ("exported/x", "exported/x/runtimes/1/model.keras"):
        found = load(model).embed(audio, 22_050)
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.slow
def test_weights_whose_outputs_overflow_are_not_exported(tmp_path, capsys):
    state = {k: np.full_like(v, 3e38) if "conv.w" in k else v for k, v in random_arrays().items()}
    write_npz(tmp_path / "c.npz", state)
    code, _, err = run_import(capsys, tmp_path / "c.npz", "-o", tmp_path / "e" / "x", "--scaler", "none")
    assert (code, len(err)) == (1, 1)
    assert "NaN or infinite values" in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_without_a_scaler_nothing_is_imported(checkpoint, tmp_path, capsys):
    code, out, err = run_import(capsys, checkpoint, "-o", tmp_path / "x")
    assert (code, out, len(err)) == (2, [], 1)
    assert "--scaler is missing" in err[0]
    assert "'none'" in err[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a b", "x" * 101, "ü", "x\ny"])
def test_a_name_that_is_no_folder_name_is_refused(checkpoint, tmp_path, capsys, name):
    code, out, err = run_import(
        capsys, checkpoint, "-o", tmp_path / "e" / name if name else "", "--scaler", "none"
    )
    assert (code, out, len(err)) == (2, [], 1)
    assert "-o '" in err[0]
    assert list(tmp_path.iterdir()) == []


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def zip_of(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, **header):
    """Bytes of an .npy file whose header may lie."""
    stream = io.BytesIO()
    made = np.lib.format.header_data_from_array_1_0(array) | header
    np.lib.format.write_array_header_1_0(stream, made)
    return stream.getvalue() + array.tobytes()


def object_npy(mark):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.array([Runs(mark)], object), allow_pickle=True)
    return stream.getvalue()


def truncated(path):
    write_npz(path, random_arrays())
    path.write_bytes(path.read_bytes()[:200_000])


def damaged(path):
    write_npz(path, random_arrays())
    content = bytearray(path.read_bytes())
    content[100_000:100_100] = bytes(100)
    path.write_bytes(content)


def fifo(path):
    os.mkfifo(path)


# Name of the file, how it is made (given its path and a mark that must not appear), words of the refusal.
HOSTILE = [
    ("missing.npz", lambda path, mark: None, "cannot be read (No such file"),
    ("folder.npz", lambda path, mark: path.mkdir(), "not a regular file"),
    ("fifo.pt", lambda path, mark: fifo(path), "not a regular file"),
    ("empty.npz", lambda path, mark: path.write_bytes(b""), "is not a checkpoint"),
    ("text.pt", lambda path, mark: path.write_text("weights"), "is not a checkpoint"),
    ("pickle.npz", lambda path, mark: path.write_bytes(pickle.dumps(Runs(mark))), "is not a checkpoint"),
    ("pickle.pt", lambda path, mark: path.write_bytes(pickle.dumps(Runs(mark), 2)), "is not a checkpoint"),
    ("packed.pth.gz", lambda path, mark: path.write_bytes(b"\x1f\x8b" + bytes(50)), "gunzip"),
    ("truncated.npz", lambda path, mark: truncated(path), "damaged archive"),
    ("damaged.npz", lambda path, mark: damaged(path), "Bad CRC-32"),
    ("one.npz", lambda path, mark: np.save(path.open("wb"), np.zeros(3)), "is not a checkpoint"),
    ("other.zip", lambda path, mark: zip_of(path, {"../evil.txt": "x"}), "but no checkpoint"),
    ("objects.npz", lambda path, mark: zip_of(path, {"tasks.npy": object_npy(mark)}), "pickled objects"),
    (
        "outside.npz",
        lambda path, mark: zip_of(
            path, {"../../evil.npy": npy(np.zeros(2)), "tasks.npy": npy(np.array(["tag"]))}
        ),
        "'branch_at' is missing",
    ),
    (
        "huge.npz",
        lambda path, mark: zip_of(path, {"a.npy": npy(np.zeros(2), shape=(10**12, 10**6))}),
        "more than the file holds",
    ),
    (
        "bomb.npz",
        lambda path, mark: zip_of(path, {"a.npy": bytes(2**28 + 1)}, compression=zipfile.ZIP_DEFLATED),
        "raise KERASREP_MAX_CHECKPOINT_BYTES",
    ),
    (
        "header.npz",
        lambda path, mark: zip_of(
            path, {"a.npy": b"\x93NUMPY\x01\x00\x40\x00__import__('os').system('x')" + b" " * 64}
        ),
        "not a usable NPZ file",
    ),
    (
        "tasks.npz",
        lambda path, mark: write_npz(path, random_arrays(), tasks="tag"),
        "'tasks' is missing or no list",
    ),
    (
        "genre.npz",
        lambda path, mark: write_npz(path, random_arrays(), tasks=["genre"]),
        "unknown source 'genre'",
    ),
    ("point.npz", lambda path, mark: write_npz(path, random_arrays(), branch_at="5"), "branch_at is '5'"),
    ("outs.npz", lambda path, mark: write_npz(path, random_arrays(), n_outs=49), "expected [49, 256]"),
    ("zero.npz", lambda path, mark: write_npz(path, random_arrays(), n_outs=0), "n_outs is 0"),
    (
        "nan.npz",
        lambda path, mark: write_npz(path, {k: v * np.nan for k, v in random_arrays().items()}),
        "NaN",
    ),
    (
        "few.npz",
        lambda path, mark: write_npz(path, {}),
        "key 'shared.0.conv.weight', [16, 2, 5, 5], is missing",
    ),
]


@pytest.mark.parametrize(("name", "make", "words"), HOSTILE, ids=[name for name, *_ in HOSTILE])
def test_what_is_no_checkpoint_is_refused_in_one_line_and_leaves_nothing(tmp_path, capsys, name, make, words):
    folder = tmp_path / "in" / "put"
    folder.mkdir(parents=True)
    mark = tmp_path / "mark"
    make(folder / name, mark)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run_import(capsys, folder / name, "-o", tmp_path / "exported" / "x", "--scaler", "none")
    assert (code, out, len(err)) == (1, [], 1)
    assert words in err[0]
    assert sorted(tmp_path.rglob("*")) == before


@hypothesis.given(
    damage=st.lists(
        st.tuples(st.floats(0, 1), st.integers(0, 255), st.integers(0, 20)), min_size=1, max_size=5
    )
)
def test_a_damaged_npz_is_read_or_refused_in_one_line(damage, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    content = bytearray(small_npz())
    for place, value, length in damage:
        start = int(place * (len(content) - 1))
        content[start : start + length] = bytes([value])
    path.write_bytes(content)
    try:
        read = read_checkpoint(path)
    except DataError as error:
        assert str(error).startswith(f"{path}: ")
        assert "\n" not in str(error)
    else:
        assert all(isinstance(array, np.ndarray) for array in read.state_dict.values())


@functools.cache
def small_npz():
    stream = io.BytesIO()
    np.savez(stream, tasks=np.array(TASKS), branch_at=np.array(4), x=np.arange(6.0).reshape(2, 3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"mean": np.zeros(128)}, "'sd' of 128 values"),
        ({"mean": np.zeros(127), "sd": np.ones(128)}, "'mean' of 128 values"),
        ({"mean": np.zeros(128), "sd": np.zeros(128)}, "positive"),
        ({"mean": np.zeros(128), "sd": np.full(128, 1e-60)}, "float32"),
        ({"mean": np.full(128, 1e300), "sd": np.ones(128)}, "float32"),
        ({"mean": np.full(128, np.nan), "sd": np.ones(128)}, "finite"),
        ({"mean": np.full(128, "x"), "sd": np.ones(128)}, "numbers"),
        ({"mean": np.full(128, None, object), "sd": np.ones(128)}, "pickled objects"),
    ],
)
def test_a_scaler_that_would_ruin_embeddings_is_refused(checkpoint, tmp_path, capsys, arrays, words):
    np.savez(tmp_path / "s.npz", **arrays)
    code, _, err = run_import(capsys, checkpoint, "-o", tmp_path / "e" / "x", "--scaler", tmp_path / "s.npz")
    assert (code, len(err)) == (1, 1)
    assert "s.npz" in err[0]
    assert words in err[0]
    assert [p.name for p in tmp_path.iterdir()] == ["s.npz"]


@pytest.mark.parametrize("branch_at", [np.array(4), np.array("4")])
def test_branch_points_of_npz_files_are_numbers_or_words(tmp_path, branch_at):
    read = read_checkpoint(write_npz(tmp_path / "c.npz", {}, branch_at=branch_at))
    assert (read.tasks, read.branch_at, read.n_outs) == (TASKS, branch_at.item(), None)


@pytest.mark.parametrize(("n_outs", "read"), [(50, 50), ([2, 50], (2, 50)), (None, None)])
def test_sizes_of_heads_are_one_number_or_one_a_task(tmp_path, n_outs, read):
    more = {} if n_outs is None else {"n_outs": n_outs}
    assert read_checkpoint(write_npz(tmp_path / "c.npz", {}, **more)).n_outs == read


TORCH_LIKE = [{"archive/data.pkl": pickle.dumps({}), "archive/version": "3"}, None]


@pytest.mark.parametrize("members", TORCH_LIKE, ids=["archive", "legacy"])
def test_without_pytorch_its_files_name_the_extra(tmp_path, capsys, monkeypatch, members):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "c.pt"
    if members is None:
        path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2))
    else:
        zip_of(path, members)
    code, _, err = run_import(capsys, path, "-o", tmp_path / "e" / "x", "--scaler", "none")
    assert (code, len(err)) == (1, 1)
    assert "pip install 'kerasrep[torch]'" in err[0]
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]


def torch_dictionary(torch, tasks=TASKS, branch_at="4"):
    """What the published training code saves, the optimizer's state and file names included."""
    state = {key: torch.from_numpy(value) for key, value in random_arrays(tasks, branch_at).items()}
    return {
        "iters": 1000,
        "tasks": list(tasks),
        "n_outs": 50,
        "branch_at": branch_at,
        "scaler_fn": "scaler.dat.gz",
        "state_dict": state,
        "optimizer": {"shared": {"state": {}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999)}]}},
    }


@pytest.mark.parametrize("n_outs", [50, [2, 50], {"self_": 2, "tag": 50}])
def test_the_documented_conversion_to_npz_gives_the_same_network(tmp_path, n_outs):
    torch = pytest.importorskip("torch")
    torch.save(torch_dictionary(torch) | {"n_outs": n_outs}, tmp_path / "c.pt")
    saved = torch.load(tmp_path / "c.pt", map_location="cpu", weights_only=True)
    arrays = {key: value.numpy() for key, value in saved["state_dict"].items()}
    np.savez(tmp_path / "w.npz", tasks=saved["tasks"], branch_at=saved["branch_at"] or "null", **arrays)
    mel = noise(5, 1, 216, 128, 2)
    networks = [read_checkpoint(tmp_path / name).build() for name in ("c.pt", "w.npz")]
    found, same = (network.trunk(mel)["tag"].numpy() for network in networks)
    np.testing.assert_array_equal(found, same)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("fraction", [0.01, 0.5, 0.99])
def test_a_truncated_checkpoint_of_torch_is_refused(tmp_path, legacy, fraction):
    torch = pytest.importorskip("torch")
    path = tmp_path / "c.pt"
    torch.save(torch_dictionary(torch), path, _use_new_zipfile_serialization=not legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(DataError, match="damaged") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_torch_whose_name_is_not_utf8_asks_for_another(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch_dictionary(torch), tmp_path / "c.pt")
    path = (tmp_path / "c.pt").rename(tmp_path / os.fsdecode(b"\xff.pt"))
    with pytest.raises(DataError, match="rename it"):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("branch_at", ["4", None])
def test_what_torch_save_wrote_is_read_in_both_of_its_file_formats(tmp_path, legacy, branch_at):
    torch = pytest.importorskip("torch")
    path = tmp_path / "c.pth.tar"
    saved = torch_dictionary(torch, branch_at=branch_at or "null") | {"branch_at": branch_at}
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    read = read_checkpoint(path)
    assert (read.form, read.tasks, read.branch_at) == (
        "torch legacy" if legacy else "torch",
        TASKS,
        branch_at,
    )
    expected = random_arrays(branch_at=branch_at or "null")
    assert list(read.state_dict) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(read.state_dict[key], value)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_precisions_and_parameters_of_torch_are_read(tmp_path, dtype):
    torch = pytest.importorskip("torch")
    saved = torch_dictionary(torch)
    key = "shared.0.conv.weight"
    saved["state_dict"][key] = torch.nn.Parameter(saved["state_dict"][key].to(getattr(torch, dtype)))
    torch.save(saved, tmp_path / "c.pt")
    found = read_checkpoint(tmp_path / "c.pt").state_dict[key]
    np.testing.assert_allclose(found, random_arrays()[key], atol={"bfloat16": 5e-3}.get(dtype, 5e-4))


def test_a_checkpoint_of_torch_is_imported_by_the_command(tmp_path, capsys, scaler, exported):
    torch = pytest.importorskip("torch")
    torch.save(torch_dictionary(torch), tmp_path / "c.pt")
    code, out, err = run_import(capsys, tmp_path / "c.pt", "-o", tmp_path / "e" / "x", "--scaler", scaler)
    assert (code, err) == (0, [])
    assert "imported" in out[0]
    audio = noise(3, SEGMENT, 2)
    found, same = load(tmp_path / "e" / "x").embed(audio, 22_050), load(exported).embed(audio, 22_050)
    np.testing.assert_allclose(found, same, atol=1e-6)


def rewrite(path, change):
    """Write an archive anew, its members as `change` gives them back."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path.unlink()
    zip_of(path, change(members))


def short_records(members):
    """Tensors that declare more than their records hold."""
    return {name: content[:8] if "/data/" in name else content for name, content in members.items()}


def huge_tensor(members):
    """A vector of 801 values declares two thousand million, and so does its storage."""
    pickled = next(name for name in members if name.endswith("data.pkl"))
    old, new = b"M" + (801).to_bytes(2, "little"), b"J" + (2**31 - 1).to_bytes(4, "little")
    assert members[pickled].count(old) == 2
    return members | {pickled: members[pickled].replace(old, new)}


def endless_view(torch, saved):
    saved["state_dict"]["shared.0.conv.weight"] = torch.zeros(1).expand(10**6, 10**6)


def many_views(torch, saved):
    saved["state_dict"].update({f"x{n}": torch.zeros(1).expand(2**22) for n in range(100)})


HOSTILE_TORCH = [
    (
        "code in the state",
        lambda torch, saved, mark: saved["state_dict"].update(x=Runs(mark)),
        None,
        "is not run",
    ),
    ("code beside it", lambda torch, saved, mark: saved.update(iters=Runs(mark)), None, "is not run"),
    (
        "a whole model",
        lambda torch, saved, mark: saved.update(model=torch.nn.Linear(2, 2)),
        None,
        "is not run",
    ),
    ("short records", None, short_records, ""),
    (
        "huge tensor",
        lambda torch, saved, mark: saved["state_dict"].update(x=torch.ones(801)),
        huge_tensor,
        "damaged",
    ),
    ("endless view", lambda torch, saved, mark: endless_view(torch, saved), None, "larger than any network"),
    ("many views", lambda torch, saved, mark: many_views(torch, saved), None, "larger than any network"),
    ("no state", lambda torch, saved, mark: saved.pop("state_dict"), None, "no dictionary 'state_dict'"),
    ("no tasks", lambda torch, saved, mark: saved.pop("tasks"), None, "'tasks' is missing"),
    ("no branch point", lambda torch, saved, mark: saved.pop("branch_at"), None, "'branch_at' is missing"),
    ("odd branch point", lambda torch, saved, mark: saved.update(branch_at=[4]), None, "'branch_at' is"),
    ("odd n_outs", lambda torch, saved, mark: saved.update(n_outs={}), None, "'n_outs' is neither"),
    ("words", lambda torch, saved, mark: saved["state_dict"].update(x="y"), None, "key 'x' is a str"),
    (
        "number keys",
        lambda torch, saved, mark: saved["state_dict"].update({1: torch.ones(1)}),
        None,
        "key '1'",
    ),
    (
        "sparse",
        lambda torch, saved, mark: saved["state_dict"].update(x=torch.eye(2).to_sparse()),
        None,
        "",
    ),
]


@pytest.mark.parametrize(
    ("change", "rewritten", "words", "legacy"),
    [
        pytest.param(change, rewritten, words, legacy, id=what + (", legacy" if legacy else ""))
        for what, change, rewritten, words in HOSTILE_TORCH
        for legacy in (False, True)
        if not (rewritten and legacy)  # what is rewritten is an archive, which legacy files are not
    ],
)
def test_hostile_checkpoints_of_torch_are_refused_in_one_line(
    tmp_path, capsys, change, rewritten, words, legacy
):
    torch = pytest.importorskip("torch")
    path, mark, saved = tmp_path / "c.pt", tmp_path / "mark", torch_dictionary(torch)
    if change:
        change(torch, saved, mark)
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    if rewritten:
        rewrite(path, rewritten)
    code, out, err = run_import(capsys, path, "-o", tmp_path / "e" / "x", "--scaler", "none")
    assert (code, out, len(err)) == (1, [], 1)
    assert err[0].startswith(f"kerasrep-import: error: {path}: ")
    assert words in err[0]
    assert "weights_only" not in err[0]  # nobody is told to turn it off
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"]
