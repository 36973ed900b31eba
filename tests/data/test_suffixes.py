"""One list of suffixes, from what the decoders read; what is passed over is named."""

from __future__ import annotations

import av
import pytest
import soundfile
from sound_files import by_ffmpeg, by_libsndfile, music

from kerasrep.cli import command, embed
from kerasrep.corpora.folder import open_folder
from kerasrep.data.decoders import ffmpeg, suffixes
from kerasrep.embedding.files import find_audio
from kerasrep.recipe.corpora import FolderCorpus

PEOPLE_HAVE = (
    "wav wave aif aiff flac mp3 mp2 mpga ogg oga opus m4a aac webm wma wv ape tta ac3 mka caf au sph mp4"
)


@pytest.fixture
def no_pyav(monkeypatch):
    """As where PyAV cannot be imported."""
    monkeypatch.setattr(ffmpeg, "is_there", lambda: False)
    suffixes.read_suffixes.cache_clear()
    yield
    suffixes.read_suffixes.cache_clear()


def test_what_people_have_is_read():
    assert {f".{suffix}" for suffix in PEOPLE_HAVE.split()} <= suffixes.read_suffixes()
    assert suffixes.read_suffixes() <= suffixes.known_suffixes()


def test_every_container_of_the_list_is_one_that_ffmpeg_and_libsndfile_have():
    for names in ffmpeg.CONTAINERS:
        assert {names, *names.split(",")} & av.formats_available, names
    assert suffixes._LIBSNDFILE.keys() <= soundfile.available_formats().keys()


def test_embedding_and_training_find_the_same_files_and_say_what_they_pass_over(tmp_path):
    for name in (
        "a.wav",
        "b.m4a",
        "c.MP3",
        "d.webm",
        "e.aax",
        "f.aax",
        "g.ofr",
        "notes.txt",
        ".h.wav",
        ".i.aax",
    ):
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    files, _ = find_audio([tmp_path])
    corpus = open_folder(FolderCorpus(name="folder", root=str(tmp_path)))
    assert {path.name for path in files} == {"a.wav", "b.m4a", "c.MP3", "d.webm"}
    assert {track.path.name for track in corpus.tracks} == {path.name for path in files}
    line = "passed over: 3 files that are named like audio (aax 2, ofr 1) and 1 link to a folder"
    assert corpus.notices[0] == f"{tmp_path}: {line}"


@pytest.mark.usefixtures("no_pyav")
def test_without_pyav_the_message_says_so_once():
    assert ".m4a" not in suffixes.read_suffixes() and ".wav" in suffixes.read_suffixes()
    line = suffixes.passed_over({".m4a": 3, ".webm": 1})
    assert line == f"passed over: 4 files that are named like audio (m4a 3, webm 1); {ffmpeg.MISSING}"


def test_the_command_embeds_all_formats_of_a_folder(tmp_path, small_export, capsys):
    folder = tmp_path / "music"
    folder.mkdir()
    for suffix, form, codec in (("m4a", "ipod", "aac"), ("wma", "asf", "wmav2"), ("wv", "wv", "wavpack")):
        (folder / f"a.{suffix}").write_bytes(by_ffmpeg(form, codec, music()))
    (folder / "a.wave").write_bytes(by_libsndfile("WAV", "PCM_16", music()))
    (folder / "a.aax").write_bytes(b"locked")
    output = tmp_path / "x.npz"
    arguments = [str(folder), "-o", str(output), "--model", str(small_export)]
    assert command.run(embed.main, embed.PROG, arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("4 files")
    assert captured.err == "kerasrep-embed: passed over: 1 file that is named like audio (aax 1)\n"
