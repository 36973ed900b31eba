import socket
import sys
import time

import pytest

from kerasrep.errors import RecipeError, RunError
from kerasrep.runtime.pool import cluster as connection
from kerasrep.runtime.pool.cluster import Cluster, connect


@pytest.mark.parametrize(
    "address", ["", "host", "host:", ":6379", "host:0", "host:99999", "ray://host:10001", "host:port"]
)
def test_what_is_no_address_is_refused_before_anything_is_tried(address):
    with (
        pytest.raises(RecipeError, match="give HOST:PORT of a cluster's head, auto, or local"),
        connect(address),
    ):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r'pip install "kerasrep\[scale\]"'), connect("local"):
        pass


@pytest.mark.parametrize("backlog", [None, 5])
def test_an_address_that_does_not_answer_as_a_cluster_is_told_soon(monkeypatch, backlog):
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(connection, "import_ray", lambda: type("Ray", (), {"is_initialized": lambda: False}))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if backlog:  # somebody else's port, who says nothing
            server.listen(backlog)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RunError, match=f"--ray {address}: no cluster answers there"), connect(address):
            pass


def test_a_head_that_falls_silent_ends_the_work(monkeypatch):
    monkeypatch.setattr(connection, "SILENT_SECONDS", 1.5)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(5)
        cluster = Cluster(f"127.0.0.1:{server.getsockname()[1]}")
        time.sleep(1.1)
        cluster.check()
    with pytest.raises(RunError, match="has not answered"):
        for _ in range(5):
            time.sleep(1.05)
            cluster.check()
