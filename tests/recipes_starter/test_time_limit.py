import os
import time

import pytest
from time_limit import ENDED, TIME_LIMIT, run_limited


def answer(job):
    if job == "hang":
        time.sleep(600)
    if job == "fail":
        raise ValueError("no\nsuch thing")
    if job == "die":
        os._exit(3)
    return job * 2


@pytest.mark.parametrize("processes", [1, 3])
def test_each_job_has_an_outcome_whatever_becomes_of_its_process(processes):
    jobs = [1, "hang", 2, "fail", "die", 3]
    started = time.monotonic()
    outcomes = {outcome.job: outcome for outcome in run_limited(answer, jobs, processes, limit_seconds=3)}
    assert time.monotonic() - started < 30
    assert set(outcomes) == set(jobs)
    assert [outcomes[job].value for job in (1, 2, 3)] == [2, 4, 6]
    assert outcomes["hang"].error == TIME_LIMIT
    assert outcomes["fail"].error == "ValueError: no such thing"
    assert outcomes["die"].error == ENDED


def test_no_jobs_no_outcomes():
    assert list(run_limited(answer, [], 2, 1)) == []
