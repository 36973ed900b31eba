"""What an export leaves beside its versions, read with TF Serving's own messages."""

import json
import shutil

import numpy as np
import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from kerasrep.errors import ExportError
from kerasrep.serving import folder, warmup
from kerasrep.serving.check import FORBIDDEN, check_operations, operations_of
from kerasrep.serving.export import export_run
from kerasrep.serving.warmup import RENDERED, VALIDATION, plucked_scale, warmup_audio
from kerasrep.storage.export_directory import ServingFolder, read_card, read_card_file, warmup_path
from kerasrep.storage.run_directory import RunDirectory


def folder_of(version):
    return ServingFolder(version.parent)


def test_the_models_config_serves_the_newest_version(small_export):
    parsed = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(folder_of(small_export).models_config.read_text(), parsed)
    (model,) = parsed.model_config_list.config
    assert (model.name, model.base_path) == ("small", "/models/small")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


def test_the_batching_parameters_pad_tracks_and_bound_the_batch(small_export):
    text = folder_of(small_export).batching_parameters.read_text()
    parsed = text_format.Parse(text, folder.batching_message())
    assert parsed.pad_variable_length_inputs
    assert parsed.max_batch_size.value == folder.MAX_BATCH_SIZE
    assert parsed.num_batch_threads.value >= 1
    assert not parsed.allowed_batch_sizes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_batch_size { value: x }", "x"),
        ("max_batch_size: 3", "max_batch_size"),
        ("pad_inputs: true", "pad_inputs"),
        ("max_batch_size { value: 0 }", "max_batch_size must be 1 or more"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: 4", "allowed_batch_sizes"),
    ],
)
def test_wrong_batching_parameters_are_told_with_their_file(tmp_path, text, said):
    path = tmp_path / "batching_parameters.txt"
    with pytest.raises(ExportError, match=said) as caught:
        folder.check_batching_parameters(path, text)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_card_at_the_top_is_that_of_the_newest_version(small_export):
    top = folder_of(small_export).card
    assert json.loads(top.read_text())["version"] == 1
    assert read_card_file(top) == read_card(small_export)


def test_the_card_tells_front_end_licence_and_warm_up(small_export):
    card = read_card(small_export)
    assert card.front_end["fft_samples"] == 1024
    assert card.front_end["mel_bands"] == 128
    assert card.front_end["decibels"] == {"of": "power", "reference": 1.0, "amin": 1e-10, "top_db": 80.0}
    assert any("TimGM6mb" in line for line in card.licence)
    assert card.warmup == {"audio": RENDERED, "requests": {"serving_default": 2, "embed_track": 2}}
    assert card.training_data is None


def test_what_people_changed_stays_and_what_they_broke_is_told(small_export, tmp_path):
    shutil.copytree(small_export, tmp_path / "small" / "7")
    served = ServingFolder(tmp_path / "small")
    folder.write_folder(served)
    pinned = served.models_config.read_text().replace(
        "latest { num_versions: 1 }", "specific { versions: 7 }"
    )
    served.models_config.write_text(pinned)
    folder.check_folder(served)
    folder.write_folder(served)
    assert served.models_config.read_text() == pinned
    assert json.loads(served.card.read_text())["version"] == 7
    served.models_config.write_text("model_config_list {")
    with pytest.raises(ExportError, match=r"models\.config"):
        folder.check_folder(served)


def test_a_broken_configuration_stops_the_export_before_any_work(small_run, tmp_path):
    served = ServingFolder(tmp_path / "small")
    served.root.mkdir()
    served.batching_parameters.write_text("max_batch_size: 3")
    with pytest.raises(ExportError, match=r"batching_parameters\.txt"):
        export_run(small_run, tmp_path, "small")
    assert [path.name for path in served.root.iterdir()] == ["batching_parameters.txt"]


def test_warm_up_requests_are_music_for_both_signatures_and_survive_the_file(small_export):
    requests = list(warmup.read_requests(warmup_path(small_export)))
    assert [r.signature for r in requests] == ["serving_default"] * 2 + ["embed_track"] * 2
    assert [r.inputs["waveform"].shape for r in requests] == [
        (1, 55_125, 2),
        (2, 55_125, 2),
        (1, 27_562, 2),
        (1, 66_150, 2),
    ]
    assert [int(r.inputs["length_samples"][0]) for r in requests[2:]] == [27_562, 66_150]
    left = requests[0].inputs["waveform"][0, :, 0]
    spectrum = np.abs(np.fft.rfft(left * np.hanning(len(left)))) ** 2
    flatness = np.exp(np.mean(np.log(spectrum + 1e-12))) / np.mean(spectrum)
    assert flatness < 0.2  # white noise has about 0.56


def test_validation_tracks_of_the_run_become_warm_up_requests(prepared_tones, tmp_path):
    run = RunDirectory(tmp_path)
    run.prepared.write_text(json.dumps({"root": str(prepared_tones.root), "fingerprint": "x"}))
    audio, origin = warmup_audio(run, 60_000, 22_050)
    assert (audio.shape, origin) == ((2, 60_000, 2), VALIDATION)
    assert audio.std(axis=(1, 2)).min() > 0.01
    assert warmup_audio(run, 60_000, 44_100)[1] == RENDERED  # shards of another rate
    assert warmup_audio(run, 200_000, 22_050)[1] == RENDERED  # no track is that long


@pytest.mark.parametrize("content", [None, "{", "[]", '{"root": "/nowhere"}'])
def test_a_run_whose_shards_are_gone_has_a_tune_played_for_it(tmp_path, content):
    run = RunDirectory(tmp_path)
    if content is not None:
        run.prepared.write_text(content)
    assert warmup_audio(run, 1000, 22_050)[1] == RENDERED


def test_the_plucked_scale_has_the_pitches_it_says():
    audio = plucked_scale(22_050, 22_050)[: int(0.3 * 22_050), 0]
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 2**17))
    found_hz = np.argmax(spectrum[:2500]) * 22_050 / 2**17
    assert min(abs(found_hz / k - 196.0) for k in (1, 2)) < 4


def write_records(path, *records):
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (warmup.Request("other", {"waveform": np.zeros((1, 55_125, 2), np.float32)}), "no such signature"),
        # Kernels of some processors refuse to pool what is not there, others make NaN of it.
        (
            warmup.Request("serving_default", {"waveform": np.zeros((1, 9, 2), np.float32)}),
            "fails|not finite",
        ),
        (warmup.Request("serving_default", {"sound": np.zeros((1, 55_125, 2), np.float32)}), "fails"),
        (
            warmup.Request("serving_default", {"waveform": np.zeros((1, 55_125, 2), np.float32)}),
            "no request for embed_track",
        ),
    ],
)
def test_a_request_that_a_server_would_fail_on_is_found(small_signatures, tmp_path, request_, said):
    path = tmp_path / "requests"
    warmup.write_requests(path, "small", [request_])
    with pytest.raises(ExportError, match=said) as caught:
        warmup.replay(path, small_signatures)
    assert "\n" not in str(caught.value)


def test_a_model_that_gives_nan_fails_its_warm_up(tmp_path):
    import tensorflow as tf

    path = tmp_path / "requests"
    warmup.write_requests(path, "x", [warmup.Request("one", {"waveform": np.zeros((1, 2), np.float32)})])
    with pytest.raises(ExportError, match="not finite"):
        warmup.replay(path, {"one": lambda waveform: {"embedding": tf.constant([np.nan])}})


@pytest.mark.parametrize("record", [b"\xff\xff\xff", b""])
def test_a_record_that_is_no_request_is_told(tmp_path, record):
    with pytest.raises(ExportError, match="record 1 is not a request"):
        list(warmup.read_requests(write_records(tmp_path / "requests", record)))


def test_a_file_that_is_cut_off_is_told(small_export, tmp_path):
    cut = tmp_path / "requests"
    cut.write_bytes(warmup_path(small_export).read_bytes()[:-5])
    with pytest.raises(ExportError, match="not a usable TFRecord file"):
        list(warmup.read_requests(cut))


def test_the_graph_and_its_functions_hold_operations_of_tensorflow_alone(small_export):
    operations = operations_of(small_export)
    assert {"Conv2D", "RFFT", "ReadVariableOp"} <= operations
    assert not operations & FORBIDDEN
    assert not [name for name in operations if ">" in name]
    check_operations(small_export)


def test_a_graph_that_calls_python_is_refused(tmp_path):
    import tensorflow as tf

    class Calls(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def __call__(self, x):
            return tf.numpy_function(np.square, [x], tf.float32)

    module = Calls()
    tf.saved_model.save(module, str(tmp_path), signatures={"serving_default": module.__call__})
    with pytest.raises(ExportError, match="PyFunc"):
        check_operations(tmp_path)
