import pytest

from kerasrep.runtime.pool.cluster import Node
from kerasrep.runtime.pool.on_ray import Place, places_of


@pytest.mark.parametrize(
    ("cpus", "gpus", "places"),
    [
        (0, 0, []),
        (1, 0, [Place(1)]),
        (0.5, 0, [Place(0.5)]),
        (7, 0, [Place(7)]),
        (16, 0, [Place(4)] * 4),
        (16, 2, [Place(8, 1)] * 2),
        (2, 4, [Place(0.5, 1)] * 4),
        (0, 4, []),
    ],
)
def test_a_node_has_one_worker_a_gpu_or_four_cores(cpus, gpus, places):
    assert places_of(Node("id", "host", cpus, gpus)) == places
