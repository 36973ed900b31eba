"""`TF_CONFIG`, and workers that meet before TensorFlow starts."""

import json
import socket
import threading
import time

import pytest

from kerasrep.errors import RunError
from kerasrep.training.cluster import Cluster, meet, read_cluster

TWO = {"worker": ["a:1", "b:2"]}


def config(cluster=TWO, kind="worker", index=0):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})}


def test_workers_are_numbered_as_tensorflow_does_the_chief_first():
    assert read_cluster(config(index=1)) == Cluster(("a:1", "b:2"), ("worker:0", "worker:1"), 1)
    found = read_cluster(config({"worker": ["a:1", "b:2"], "chief": ["c:3"]}, index=0))
    assert found == Cluster(("c:3", "a:1", "b:2"), ("chief:0", "worker:0", "worker:1"), 1)


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "is not set"),
        ({"TF_CONFIG": "{"}, "not valid JSON"),
        ({"TF_CONFIG": "[]"}, "lacks the mapping 'cluster'"),
        ({"TF_CONFIG": '{"cluster": {}}'}, "lacks the mapping 'task'"),
        (config({}), "names no worker"),
        (config({"ps": ["a:1"]}), "names the job 'ps'"),
        (config({"worker": "a:1"}), "must be a list"),
        (config({"worker": ["a"]}), "'a' is not HOST:PORT"),
        (config({"worker": ["a:99999"]}), "is not HOST:PORT"),
        (config({"worker": ["a:1", "a:1"]}), "stands in cluster twice"),
        (config({"chief": ["a:1", "b:1"]}, "chief"), "names more than one"),
        (config(index=2), "task 'worker:2' is none of the cluster's"),
    ],
)
def test_what_is_wrong_with_tf_config_is_said_in_one_line(environment, message):
    with pytest.raises(RunError, match=message) as raised:
        read_cluster(environment)
    assert "\n" not in str(raised.value)


def free_cluster(rank, size=2):
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(size)]
    addresses = tuple(f"127.0.0.1:{server.getsockname()[1]}" for server in servers)
    for server in servers:
        server.close()
    return Cluster(addresses, tuple(f"worker:{n}" for n in range(size)), rank)


def test_a_worker_that_cannot_be_reached_is_named_in_bounded_time():
    cluster, started = free_cluster(0), time.monotonic()
    with pytest.raises(RunError, match=rf"worker 1 \({cluster.addresses[1]}\) was not reached within 0.5 s"):
        meet(cluster, 0.5)
    assert time.monotonic() - started < 5


def test_workers_that_start_at_different_times_meet():
    first = free_cluster(0)
    failures = []

    def run(cluster, delay):
        try:
            time.sleep(delay)
            meet(cluster, 20)
            with socket.create_server(("", int(cluster.addresses[cluster.rank].split(":")[1]))):
                time.sleep(1.0)  # as TensorFlow's server does
        except RunError as error:
            failures.append(error)

    second = Cluster(first.addresses, first.names, 1)
    threads = [threading.Thread(target=run, args=arguments) for arguments in ((first, 0.0), (second, 0.5))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_port_that_is_taken_is_named():
    cluster = free_cluster(0)
    with (
        socket.create_server(("", int(cluster.addresses[0].split(":")[1]))),
        pytest.raises(RunError, match="cannot be opened"),
    ):
        meet(cluster, 1)
