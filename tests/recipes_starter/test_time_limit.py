import os
import time

import pytest
import time_limit
from time_limit import ENDED, TIME_LIMIT, run_limited


def answer(job):
    if job == "spin":
        while True:
            pass
    if job == "fail":
        raise ValueError("no\nsuch thing")
    if job == "die":
        os._exit(3)
    return job * 2


@pytest.mark.parametrize("processes", [1, 3])
def test_each_job_has_an_outcome_whatever_becomes_of_its_process(processes):
    jobs = [1, "spin", 2, "fail", "die", 3]
    outcomes = {outcome.job: outcome for outcome in run_limited(answer, jobs, processes, limit_seconds=0.5)}
    assert set(outcomes) == set(jobs)
    assert [outcomes[job].value for job in (1, 2, 3)] == [2, 4, 6]
    assert outcomes["spin"].error == TIME_LIMIT
    assert outcomes["fail"].error == "ValueError: no such thing"
    assert outcomes["die"].error == ENDED


def wait(job):
    time.sleep(600)


def test_a_job_that_waits_for_ever_is_ended_by_the_clock(monkeypatch):
    monkeypatch.setattr(time_limit, "_PATIENCE", 1)
    assert [outcome.error for outcome in run_limited(wait, [1], 1, limit_seconds=0.05)] == [TIME_LIMIT]


def test_no_jobs_no_outcomes():
    assert list(run_limited(answer, [], 2, 1)) == []
