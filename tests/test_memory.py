import json
import os
import subprocess
import sys

import pytest

SCRIPT = """
import json, resource, numpy as np
from kerasrep.memory import keep_freed_memory
kept = keep_freed_memory()
def cleared_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(50_000_000, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
cleared_pages()
print(json.dumps([kept, cleared_pages()]))
"""


def run(**environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    # Pages of 4 kB, so that faults can be counted.
    clean |= {"NUMPY_MADVISE_HUGEPAGE": "0", **environment}
    out = subprocess.run([sys.executable, "-c", SCRIPT], env=clean, capture_output=True, check=True).stdout
    return json.loads(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_used_again_without_asking_the_kernel():
    kept, faults = run()
    assert kept
    assert faults < 100
    chosen, more = run(MALLOC_ARENA_TEST="8")
    assert not chosen
    assert more > 1000
