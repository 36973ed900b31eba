"""The client against servers that run the exported model behind TF Serving's contracts."""

import json
import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace

import grpc
import hypothesis
import numpy as np
import pytest
import requests
import soundfile
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from servers import Served, grpc_server, rest_server

from kerasrep.embedding import load
from kerasrep.errors import DataError, ExportError, ServerError
from kerasrep.serving.client import Client
from kerasrep.serving.rest import shortest
from kerasrep.serving.transport import Failure, Patience
from kerasrep.storage.export_directory import card_path, read_card

SEGMENT = 55_125
QUICK = Patience(timeout_seconds=20, attempts=3, backoff_seconds=0.001)
UNAVAILABLE = {"rest": (503, {"error": "busy"}), "grpc": (grpc.StatusCode.UNAVAILABLE, "busy")}
REFUSED = {
    "rest": (400, {"error": "no such\ninput"}),
    "grpc": (grpc.StatusCode.INVALID_ARGUMENT, "no such\ninput"),
}
PROTOCOLS = ("rest", "grpc")


@pytest.fixture(scope="module")
def served(small_export, small_loaded):
    return Served(small_export, small_loaded)


@pytest.fixture(scope="module")
def addresses(served):
    rest, (rpc, rpc_address) = rest_server(served), grpc_server(served)
    yield {"rest": rest.address, "grpc": rpc_address}
    rest.shutdown()
    rest.server_close()
    rpc.stop(None)


@pytest.fixture
def connect(addresses, served, small_export):
    clients = []

    def make(protocol, **options):
        settings = {"patience": QUICK, "card": small_export.parent / "card.json"} | options
        clients.append(Client(addresses[protocol], "small", **settings))
        served.requests.clear()
        return clients[-1]

    yield make
    served.faults.clear()
    for client in clients:
        client.close()


def music(seconds, rate_hz, channels=2):
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    voices = [
        0.3 * np.sin(2 * np.pi * (220 + 90 * c) * time_s * (1 + 0.05 * time_s)) for c in range(channels)
    ]
    return np.stack(voices, axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def layered(small_export):
    return load(small_export, "last,conv5,conv7")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_layers_come_from_a_server_as_from_the_model_itself(connect, layered, protocol):
    client = connect(protocol, layers="last,conv5,conv7")
    assert client.columns == layered.columns
    track = music(3.3, 22_050)
    np.testing.assert_allclose(client.embed(track, 22_050), layered.embed(track, 22_050), atol=1e-4)
    assert client.embed_segments(np.zeros((0, SEGMENT, 2), np.float32)).shape == (0, client.dimension // 2)
    with pytest.raises(ExportError, match="gives last alone"):
        connect(protocol, layers="all", card=None)


def test_the_card_of_a_model_with_other_layers_is_refused(connect, small_export):
    card = read_card(small_export)
    other = card.model_copy(update={"layers": (replace(card.layers[0], width=6), *card.layers[1:])})
    with pytest.raises(ServerError, match="has not the 'layer_conv1_year' of the card; give card="):
        connect("grpc", card=other)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_has_what_a_local_model_has(connect, small_model, protocol):
    client = connect(protocol)
    for name in ("sample_rate_hz", "branches", "columns", "dimension", "segment_samples"):
        assert getattr(client, name) == getattr(small_model, name)


@pytest.mark.parametrize(
    "waveform",
    [
        music(6, 22_050),
        music(1, 44_100, 1)[:, 0],
        music(3, 8_000, 6),
        (music(3, 22_050) * 3e4).astype(np.int16),
    ],
    ids=["stereo", "short mono at 44.1 kHz", "six channels at 8 kHz", "int16"],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_gives_the_vector_of_the_local_model(connect, small_model, protocol, waveform):
    rate_hz = 44_100 if waveform.ndim == 1 else (8_000 if waveform.shape[1] == 6 else 22_050)
    found = connect(protocol).embed(waveform, rate_hz)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, small_model.embed(waveform, rate_hz), atol=1e-5)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_file_is_embedded_as_by_the_local_model(connect, small_model, tmp_path, protocol):
    soundfile.write(tmp_path / "a.flac", music(4, 32_000), 32_000)
    found = connect(protocol).embed_file(tmp_path / "a.flac")
    np.testing.assert_allclose(found, small_model.embed_file(tmp_path / "a.flac"), atol=1e-5)


def test_long_audio_is_split_into_messages_that_grpc_takes_by_default(connect, served, small_model):
    waveform = np.tile(music(5, 22_050), (10, 1))
    found = connect("grpc").embed(waveform, 22_050)
    sizes = [request["waveform"][0] for request in served.requests]
    assert sum(sizes) == 20
    assert max(sizes) <= 8
    np.testing.assert_allclose(found, small_model.embed(waveform, 22_050), atol=1e-5)


def test_messages_of_rest_stay_as_small(connect, served, small_model, monkeypatch):
    client = connect("rest")
    sent = []
    send = requests.Session.request

    def record(*arguments, **options):
        sent.append(options["data"])
        return send(*arguments, **options)

    monkeypatch.setattr(requests.Session, "request", record)
    rng = np.random.default_rng(0)
    waveform = rng.normal(0, 0.1, (3 * SEGMENT - 100, 2)).astype(np.float32)
    np.testing.assert_allclose(client.embed(waveform, 22_050), small_model.embed(waveform, 22_050), atol=1e-5)
    assert [request["waveform"][0] for request in served.requests] == [2, 1]
    assert max(map(len, sent)) < 4 * 2**20
    arrived = np.concatenate([np.float32(json.loads(text)["inputs"]["waveform"]) for text in sent])
    np.testing.assert_array_equal(arrived.reshape(-1, 2)[: len(waveform)], waveform)  # to the last bit


@hypothesis.given(arrays(np.float32, 50, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_shortened_numbers_are_the_same_float32(values):
    text = json.dumps(shortest(values).tolist())
    found = np.array(json.loads(text), np.float64).astype(np.float32)
    np.testing.assert_array_equal(found.view(np.int32), values.view(np.int32))
    assert len(text) <= len(json.dumps(values.tolist()))


def test_segments_a_request_can_be_chosen(connect, served):
    connect("rest", segments_per_request=1).embed(music(5.1, 22_050), 22_050)
    assert [request["waveform"][0] for request in served.requests] == [1, 1, 1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_is_busy_is_asked_again(connect, served, small_model, protocol):
    client = connect(protocol)
    served.faults[:] = [UNAVAILABLE[protocol]] * 2
    waveform = music(1, 22_050)
    np.testing.assert_allclose(client.embed(waveform, 22_050), small_model.embed(waveform, 22_050), atol=1e-5)
    assert not served.faults


@pytest.mark.parametrize("cut", ["chunked", "counted"])
def test_an_answer_that_breaks_off_is_asked_for_again(connect, served, small_model, cut):
    client = connect("rest")
    waveform = music(1, 22_050)
    served.faults[:] = [cut]
    np.testing.assert_allclose(client.embed(waveform, 22_050), small_model.embed(waveform, 22_050), atol=1e-5)
    assert not served.faults
    served.faults[:] = [cut] * 3
    with pytest.raises(ServerError, match=r"breaks off its answer .*gave up after 3 attempts") as caught:
        connect("rest")
    assert "\n" not in str(caught.value)
    assert not served.faults


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_stays_busy_is_given_up(connect, served, protocol):
    client = connect(protocol)
    served.faults[:] = [UNAVAILABLE[protocol]] * 3
    with pytest.raises(ServerError, match="busy; gave up after 3 attempts") as caught:
        client.embed(music(1, 22_050), 22_050)
    assert str(caught.value).startswith(f"{client.address}, model 'small': ")
    assert not served.faults


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_refusal_is_final_and_told_in_one_line(connect, served, protocol):
    client = connect(protocol)
    served.faults[:] = [REFUSED[protocol]] * 2
    with pytest.raises(ServerError, match="no such input") as caught:
        client.embed(music(1, 22_050), 22_050)
    assert "\n" not in str(caught.value)
    assert len(served.faults) == 1


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_unknown_model_or_version_is_told(addresses, connect, protocol):
    connect(protocol, version=1)
    for name, version in (("other", None), ("small", 9)):
        with pytest.raises(ServerError, match="not found"):
            Client(addresses[protocol], name, version, patience=QUICK)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there_is_told_after_all_attempts(scheme):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"{scheme}://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerError, match="gave up after 3 attempts") as caught:
        Client(address, "small", patience=QUICK)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_never_answers_is_given_up_in_time(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ServerError, match="gave up after 2 attempts"):
            Client(address, "small", patience=Patience(0.2, 2, 0.001))
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "address",
    [
        *("localhost:8500", "ftp://x", "http://", "grpc:///x", "grpc://host/path", ""),
        *("http://[::1", "grpc://127.0.0.1:99999", "http://127.0.0.1:99999", "grpc://h:0", "grpc://:8500"),
        "http://h:eight",
    ],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ServerError, match="is not an address") as caught:
        Client(address, "small")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_segments_give_no_embeddings(connect, served, protocol):
    found = connect(protocol).embed_segments(np.zeros((0, SEGMENT, 2), np.float32))
    assert (found.shape, found.dtype) == ((0, 512), np.float32)
    assert served.requests == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_that_is_closed_says_so(connect, served, protocol):
    client = connect(protocol)
    client.close()
    with pytest.raises(ServerError, match="this client is closed"):
        client.embed(music(1, 22_050), 22_050)
    assert served.requests == []


@pytest.mark.parametrize(("name", "said"), [("card.jsn", "No such file"), ("", "is not a regular file")])
def test_a_mistyped_card_is_told_before_anything_is_sent(small_export, name, said):
    with pytest.raises(ExportError, match=rf"{said}.*; give EXPORT/card\.json") as caught:
        Client("grpc://localhost:1", "small", card=small_export.parent / name)
    assert "\n" not in str(caught.value)
    assert "export the run again" not in str(caught.value)


@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b'{"metadata": {"signature_def": 3}}'])
def test_an_answer_that_is_not_tf_servings_is_told(addresses, served, body):
    served.faults[:] = [(200, body)]
    with pytest.raises(ServerError) as caught:
        Client(addresses["rest"], "small", patience=QUICK)
    assert "\n" not in str(caught.value)


def test_bad_audio_is_refused_before_anything_is_sent(connect, served):
    client = connect("rest")
    with pytest.raises(DataError):
        client.embed(np.full(1000, np.nan, np.float32), 22_050)
    with pytest.raises(DataError):
        client.embed(np.zeros(10, np.float32), 0)
    assert served.requests == []


def test_without_a_card_branches_have_numbers_for_names(connect, small_model):
    client = connect("grpc", card=None)
    assert client.branches == ("branch_1", "branch_2")
    waveform = music(1, 22_050)
    np.testing.assert_allclose(client.embed(waveform, 22_050), small_model.embed(waveform, 22_050), atol=1e-5)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"segment_samples": 44_100}, "55125 samples, not 44100"),
        ({"segment_dimension": 256}, "512 values"),
        ({"branches": ("year", "artist")}, "branches tag, year, the card year, artist; "),
        ({"branches": ("shared",)}, "branches tag, year, the card shared; "),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_card_of_another_model_is_told(addresses, small_export, protocol, changed, said):
    card = read_card(small_export).model_copy(update=changed)
    with pytest.raises(ServerError, match=said):
        Client(addresses[protocol], "small", card=card, patience=QUICK)


def test_a_card_of_another_version_is_told(connect, small_export, tmp_path):
    top, own = small_export.parent / "card.json", card_path(small_export)
    for card in (top, own, read_card(small_export)):
        assert connect("grpc", version=1, card=card).branches == ("year", "tag")
        with pytest.raises(ServerError, match="version=2, but card= describes version 1"):
            connect("grpc", version=2, card=card)
    copied = shutil.copy(own, tmp_path / "card.json")  # says nothing of its version
    assert connect("grpc", version=1, card=copied).branches == ("year", "tag")


def test_headers_reach_the_server():
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer():
            connection, _ = listening.accept()
            seen.append(connection.recv(4096).decode())
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}/proxy"
        with pytest.raises(ServerError, match="answers 403"):
            Client(address, "small", headers={"Authorization": "Bearer x"}, patience=QUICK)
    assert "Authorization: Bearer x" in seen[0]
    assert seen[0].startswith("GET /proxy/v1/models/small/metadata ")


def test_pauses_double_up_to_a_limit(monkeypatch):
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("random.uniform", lambda low, high: high)

    def fail():
        raise Failure("x", passing=True)

    with pytest.raises(ServerError):
        Patience(attempts=6, backoff_seconds=0.5, max_backoff_seconds=3).call("here", fail)
    assert pauses == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"timeout_seconds": 0}, {"backoff_seconds": -1}])
def test_impatience_that_cannot_be_is_refused(wrong):
    with pytest.raises(ServerError):
        replace(Patience(), **wrong)


@pytest.mark.skipif("TF_SERVING_BINARY" not in os.environ, reason="TF_SERVING_BINARY names no server")
@pytest.mark.parametrize("batching", [False, True])
def test_a_real_model_server_gives_the_same_vectors(small_export, small_model, tmp_path, batching):
    root = tmp_path / "small"
    shutil.copytree(small_export.parent, root)
    config = (root / "models.config").read_text().replace("/models/small", str(root))
    (root / "models.config").write_text(config)
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    command = [os.environ["TF_SERVING_BINARY"], f"--port={ports[0]}", f"--rest_api_port={ports[1]}"]
    command += [f"--model_config_file={root / 'models.config'}"]
    if batching:
        command += ["--enable_batching", f"--batching_parameters_file={root / 'batching_parameters.txt'}"]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as server:
        try:
            patience = Patience(timeout_seconds=60, attempts=60, backoff_seconds=0.5, max_backoff_seconds=1)
            for address in (f"grpc://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}"):
                with Client(address, "small", card=root / "card.json", patience=patience) as client:
                    waveform = music(7, 44_100)
                    found = client.embed(waveform, 44_100)
                np.testing.assert_allclose(found, small_model.embed(waveform, 44_100), atol=1e-5)
        finally:
            server.terminate()
    assert json.loads((root / "card.json").read_text())["version"] == 1
