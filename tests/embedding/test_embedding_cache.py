import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kerasrep
from kerasrep.data.audio import DECODING_VERSION
from kerasrep.embedding import cache, store
from kerasrep.embedding.cache import cached_embeddings
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.errors import DataError

#: A representation without a model, for this process and for others: the first four samples, and the mean.
SAMPLES = """
import os, time
import numpy as np, soundfile
from kerasrep.embedding.files import BadFile, FileEmbedding

class Samples:
    name = "samples"
    dimension = 5

    def __init__(self, fingerprint="ab12", delay_seconds=0.0):
        self.fingerprint = fingerprint
        self.delay_seconds = delay_seconds
        self.asked = []

    def embed_files(self, paths):
        for path in paths:
            self.asked.append(path)
            time.sleep(self.delay_seconds)
            try:
                samples, rate_hz = soundfile.read(os.fsencode(path), dtype="float32")
            except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
                yield BadFile(path, f"{path}: {error}")
                continue
            vector = np.append(samples[:4], samples.mean()).astype(np.float32)
            yield FileEmbedding(path, vector, len(samples) / rate_hz)
"""
exec(SAMPLES)
Samples = globals()["Samples"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty home, and the folder where embeddings are then kept."""
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "embeddings" / f"decoding-{DECODING_VERSION}"


def write(path, seed, old=True):
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 800).astype(np.float32)
    soundfile.write(path, samples, 8_000, subtype="FLOAT")
    if old:  # ctime cannot be set, so that only a patched limit calls it settled
        os.utime(path, (1e9, 1e9))
    return path


def expected(seed):
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 800).astype(np.float32)
    return np.append(samples[:4], samples.mean()).astype(np.float32)


@pytest.fixture
def files(tmp_path):
    return [write(tmp_path / f"{number}.wav", number) for number in range(6)]


def embed(representation, paths):
    return cached_embeddings(representation, paths, progress=False)


def script(body):
    """Start a Python process with `Samples` at hand."""
    root = Path(kerasrep.__file__).parents[1]
    code = f"{SAMPLES}\nimport sys\nfrom pathlib import Path\n"
    code += f"from kerasrep.embedding.cache import cached_embeddings\n{body}"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_second_time_nothing_is_embedded(files):
    matrix, rows, bad = embed(Samples(), files)
    np.testing.assert_array_equal(matrix, [expected(seed) for seed in range(6)])
    assert matrix.dtype == np.float32
    assert rows.tolist() == list(range(6))
    assert bad == []
    again = Samples()
    found, rows, bad = embed(again, files[::-1])
    np.testing.assert_array_equal(found, matrix[::-1])
    assert again.asked == []


def test_bad_files_are_told_and_tried_again(files, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    paths = [tmp_path / "text.wav", files[0], tmp_path / "missing.wav", files[1], tmp_path]
    first, second = Samples(), Samples()
    for representation in (first, second):
        matrix, rows, bad = embed(representation, paths)
        np.testing.assert_array_equal(matrix, [expected(0), expected(1)])
        assert rows.tolist() == [1, 3]
        assert [item.path for item in bad] == [paths[0], paths[2], paths[4]]
    assert second.asked == [item.path for item in bad]


def test_without_any_good_file_the_matrix_is_empty(tmp_path):
    matrix, rows, bad = embed(Samples(), [tmp_path / "missing.wav"])
    assert matrix.shape == (0, 5)
    assert rows.size == 0
    assert len(bad) == 1
    assert embed(Samples(), [])[0].shape == (0, 5)


def test_the_same_audio_under_two_names_is_embedded_once(files, tmp_path):
    copy, bad_copies = tmp_path / "copy.wav", [tmp_path / "a.wav", tmp_path / "b.wav"]
    copy.write_bytes(files[0].read_bytes())
    for path in bad_copies:
        path.write_text("no audio")
    representation = Samples()
    paths = [files[0], copy, *bad_copies, files[0]]
    matrix, rows, bad = embed(representation, paths)
    np.testing.assert_array_equal(matrix, [expected(0)] * 3)
    assert rows.tolist() == [0, 1, 4]
    assert [(item.path, str(item.path) in item.reason) for item in bad] == [(p, True) for p in bad_copies]
    assert representation.asked.count(files[0]) == 1
    assert copy not in representation.asked


def test_another_fingerprint_embeds_anew(files, folder):
    embed(Samples("ab12"), files)
    other = Samples("cd34")
    embed(other, files)
    assert other.asked == files
    assert sorted(path.name for path in folder.iterdir()) == ["ab12.sqlite", "cd34.sqlite", "files.sqlite"]


@pytest.mark.parametrize("settled_seconds", [-1e12, 2.0])
def test_a_file_changed_at_the_same_size_and_time_is_embedded_anew(files, monkeypatch, settled_seconds):
    monkeypatch.setattr(cache, "SETTLED_SECONDS", settled_seconds)
    embed(Samples(), files)
    size, mtime_ns = files[2].stat().st_size, files[2].stat().st_mtime_ns
    write(files[2], 77)
    os.utime(files[2], ns=(mtime_ns, mtime_ns))
    assert (files[2].stat().st_size, files[2].stat().st_mtime_ns) == (size, mtime_ns)
    again = Samples()
    matrix, _, _ = embed(again, files)
    assert again.asked == [files[2]]
    np.testing.assert_array_equal(matrix[2], expected(77))


def test_unchanged_files_are_not_read_again(files, monkeypatch):
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -1e12)
    embed(Samples(), files)
    hashed = []
    monkeypatch.setattr(cache, "_hash", hashed.append)
    matrix, _, _ = embed(Samples(), files)
    assert hashed == []
    assert len(matrix) == 6


def test_files_that_just_changed_are_read_again(files, monkeypatch):
    embed(Samples(), files)
    hashed = []
    hash_file = cache._hash
    monkeypatch.setattr(cache, "_hash", lambda path: (hashed.append(path), hash_file(path))[1])
    embed(Samples(), files)
    assert sorted(hashed) == files


def test_a_file_that_changes_while_it_is_embedded_is_not_kept(files):
    class Late(Samples):
        def embed_files(self, paths):
            for path in paths:
                if path == files[3]:
                    write(path, 88)
                yield from super().embed_files([path])

    matrix, _, _ = embed(Late(), files)
    np.testing.assert_array_equal(matrix[3], expected(88))
    again = Samples()
    embed(again, files)
    assert again.asked == [files[3]]


def test_a_moved_file_keeps_its_embedding(files, tmp_path):
    embed(Samples(), files)
    moved = files[0].rename(tmp_path / "moved.wav")
    again = Samples()
    np.testing.assert_array_equal(embed(again, [moved])[0], [expected(0)])
    assert again.asked == []


def test_many_groups_keep_their_order(files, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "GROUP_FILES", 2)
    (tmp_path / "text.wav").write_text("no audio")
    paths = [files[0], tmp_path / "text.wav", files[1], files[2], files[0], tmp_path / "text.wav", files[5]]
    matrix, rows, bad = embed(Samples(), paths)
    np.testing.assert_array_equal(matrix, [expected(seed) for seed in (0, 1, 2, 0, 5)])
    assert rows.tolist() == [0, 2, 3, 4, 6]
    assert len(bad) == 2


def test_non_finite_embeddings_are_bad_files_and_not_kept(files):
    class Broken(Samples):
        def embed_files(self, paths):
            for path in paths:
                yield FileEmbedding(path, np.array([1, np.inf], np.float32), 1.0)

    _, rows, bad = embed(Broken(), files[:1])
    assert rows.size == 0
    assert bad == [BadFile(files[0], f"{files[0]}: its embedding has NaN or infinite values")]
    again = Samples()
    embed(again, files[:1])
    assert again.asked == files[:1]


def test_embeddings_of_unlike_length_are_told(files):
    class Odd(Samples):
        def embed_files(self, paths):
            for number, path in enumerate(paths):
                yield FileEmbedding(path, np.zeros(number + 1, np.float32), 1.0)

    with pytest.raises(DataError, match="samples: gives embeddings of 1 and of 2 values"):
        embed(Odd(), files)


def test_an_error_keeps_what_is_done(files):
    class Failing(Samples):
        def embed_files(self, paths):
            yield from super().embed_files(paths[:4])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed(Failing(), files)
    again = Samples()
    embed(again, files)
    assert again.asked == files[4:]


def test_a_killed_process_keeps_what_is_done(files, tmp_path):
    names = [str(path) for path in files]
    process = script(
        "import kerasrep.embedding.cache as cache\n"
        "cache.KEEP_SECONDS = 0\n"
        "class Told(Samples):\n"
        "    def embed_files(self, paths):\n"
        "        for result in super().embed_files(paths):\n"
        "            yield result\n"
        "            print(result.path, flush=True)\n"  # after it was kept
        f"cached_embeddings(Told('ab12', 0.2), [Path(p) for p in {names!r}], progress=False)\n"
    )
    done = [process.stdout.readline().strip() for _ in range(3)]
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert done == names[:3]
    again = Samples()
    matrix, _, _ = embed(again, files)
    assert set(again.asked) <= set(files[3:])
    np.testing.assert_array_equal(matrix, [expected(seed) for seed in range(6)])


def test_several_processes_may_embed_the_same_files(files, tmp_path):
    names = [str(path) for path in files]
    body = (
        "import kerasrep.embedding.cache as cache\n"
        "cache.KEEP_SECONDS, cache.GROUP_FILES = 0, 2\n"
        f"paths = [Path(p) for p in {names!r}][::{{step}}]\n"
        "matrix, rows, bad = cached_embeddings(Samples('ab12', 0.02), paths, progress=False)\n"
        "print(len(rows), float(matrix.sum()), flush=True)\n"
    )
    processes = [script(body.replace("{step}", step)) for step in ("1", "-1", "2", "-1")]
    outputs = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    sums = {"6": sum(expected(s).sum() for s in range(6)), "3": sum(expected(s).sum() for s in (0, 2, 4))}
    for count, total in outputs:
        assert float(total) == pytest.approx(sums[count], abs=1e-4)
    again = Samples()
    embed(again, files)
    assert again.asked == []


def test_threads_that_write_at_once_wait_for_each_other(files):
    errors = []

    def work():
        try:
            embed(Samples(), files)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def truncate(path):
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def overwrite_middle(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3 :] = b"\x5a" * len(content[len(content) // 3 :])
    path.write_bytes(content)


def other_table(path):
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE embeddings (a, b)")
        connection.execute("PRAGMA user_version = 1")
    connection.close()


def later_format(path):
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()


@pytest.mark.parametrize("file", ["ab12.sqlite", "files.sqlite"])
@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        overwrite_middle,
        other_table,
        later_format,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("no database " * 1000),
    ],
)
def test_a_damaged_cache_is_computed_again(files, folder, monkeypatch, file, damage):
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -1e12)
    embed(Samples(), files)
    damage(folder / file)
    matrix, _, bad = embed(Samples(), files)
    np.testing.assert_array_equal(matrix, [expected(seed) for seed in range(6)])
    assert bad == []
    again = Samples()
    embed(again, files)
    assert again.asked == []


def test_a_changed_value_is_noticed(files, folder):
    embed(Samples(), files)
    connection = sqlite3.connect(folder / "ab12.sqlite")
    contents = [row[0] for row in connection.execute("SELECT content FROM embeddings")]
    for content, blob in zip(contents[:3], (b"\0" * 20, b"\0" * 3, None), strict=True):
        update = "UPDATE OR IGNORE embeddings SET embedding = coalesce(?, 'text') WHERE content = ?"
        connection.execute(update, (blob, content))
    connection.commit()
    connection.close()
    again = Samples()
    matrix, _, _ = embed(again, files)
    np.testing.assert_array_equal(matrix, [expected(seed) for seed in range(6)])
    assert len(again.asked) == 3


def test_a_folder_that_cannot_be_made_is_told_in_one_line(files, tmp_path, monkeypatch):
    (tmp_path / "occupied").write_text("a file")
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "occupied"))
    with pytest.raises(DataError, match="set KERASREP_HOME") as caught:
        embed(Samples(), files)
    assert "\n" not in str(caught.value)


def test_a_cache_that_stays_locked_is_told_in_one_line(files, folder, monkeypatch):
    embed(Samples(), files[:1])
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    connection = sqlite3.connect(folder / "ab12.sqlite", isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DataError, match="database is locked") as caught:
        embed(Samples(), files)
    assert "\n" not in str(caught.value)
    connection.execute("ROLLBACK")
    connection.close()
    again = Samples()
    embed(again, files[:1])
    assert again.asked == []


def test_a_fifo_does_not_block(tmp_path, files):
    os.mkfifo(tmp_path / "fifo.wav")

    class Careful(Samples):
        def embed_files(self, paths):
            for path in paths:
                yield BadFile(path, f"{path}: is not a regular file")

    started = time.monotonic()
    assert len(embed(Careful(), [tmp_path / "fifo.wav"])[2]) == 1
    assert time.monotonic() - started < 5


def test_names_of_any_bytes_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SETTLED_SECONDS", -1e12)
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \xff.wav"))
    write(tmp_path / "plain.wav", 3).rename(path)
    embed(Samples(), [path])
    again = Samples()
    np.testing.assert_array_equal(embed(again, [path])[0], [expected(3)])
    assert again.asked == []


def test_a_cached_model_is_not_loaded(tmp_path, small_export, monkeypatch):
    from kerasrep.embedding.representations import open_representation

    paths = []
    for number in range(2):
        paths.append(tmp_path / f"long{number}.wav")
        noise = np.random.default_rng(number).normal(0, 0.1, (30_000, 2))
        soundfile.write(paths[-1], noise, 22_050)
    first = open_representation(str(small_export))
    matrix, _, _ = embed(first, paths)
    np.testing.assert_array_equal(matrix[1], [r.embedding for r in first.embed_files(paths)][1])
    again = open_representation(str(small_export))
    np.testing.assert_array_equal(embed(again, paths)[0], matrix)
    assert "embedder" not in vars(again)
