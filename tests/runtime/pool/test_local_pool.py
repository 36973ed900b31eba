import signal
import subprocess
import time

from kerasrep.runtime.child_process import child
from kerasrep.runtime.pool.base import Answer, LocalPool

IGNORES_SIGTERM = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"


class Worker:
    """Runs Python code; says how it ended."""

    def __init__(self):
        self.process = self.code = None

    def __call__(self, text):
        with child(["-c", text], stdout=subprocess.PIPE) as self.process:
            self.process.stdout.readline()
            self.code = self.process.wait()
            self.process.stdout.close()
        return Answer(self.code)

    def stop(self, number):
        self.process.send_signal(number)


def test_tasks_wait_for_room_and_each_has_its_answer():
    pool = LocalPool([Worker(), Worker()])
    assert (pool.size, pool.room()) == (2, 2)
    found = {}
    for code in range(4):
        while not pool.room():
            found |= {task: answer.value for task, answer in pool.results()}
        pool.give(f"exit({code})")
    while len(found) < 4:
        found |= {task: answer.value for task, answer in pool.results()}
    pool.stop(0)
    assert found == {f"exit({code})": code for code in range(4)}


def test_what_does_not_end_when_it_is_asked_to_is_killed():
    worker = Worker()
    pool = LocalPool([worker])
    pool.give(f"{IGNORES_SIGTERM}; time.sleep(60)")
    while worker.process is None:
        time.sleep(0.01)
    time.sleep(0.5)
    started = time.monotonic()
    pool.stop(grace_seconds=0.5)
    assert (worker.code, time.monotonic() - started < 30) == (-signal.SIGKILL, True)
