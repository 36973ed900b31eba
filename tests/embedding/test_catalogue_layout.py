import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.embedding.catalogue.layout import MAX_HOP_SECONDS, MIN_HOP_SECONDS, make_layout
from kerasrep.errors import RecipeError

BRANCHES = ("year", "tag")


def layout(rate_hz=22_050, **settings):
    return make_layout(BRANCHES, rate_hz, 55_125, **settings)


@pytest.mark.parametrize("rate_hz", [1_000, 8_000, 11_025, 22_050, 44_100])
@pytest.mark.parametrize("hop_seconds", [MIN_HOP_SECONDS, MAX_HOP_SECONDS])
def test_a_hop_at_a_bound_is_what_a_table_names_it_and_back(rate_hz, hop_seconds):
    made = layout(rate_hz, hop_seconds=hop_seconds)
    assert layout(rate_hz, hop_seconds=made.hop_seconds) == made
    assert made.hop_seconds == pytest.approx(hop_seconds, abs=0.500001 / rate_hz)


@given(st.integers(1_000, 768_000), st.floats(MIN_HOP_SECONDS, MAX_HOP_SECONDS))
def test_any_hop_is_what_a_table_names_it_and_back(rate_hz, hop_seconds):
    made = layout(rate_hz, hop_seconds=hop_seconds)
    assert layout(rate_hz, hop_seconds=made.hop_seconds) == made


@pytest.mark.parametrize(
    "hop_seconds", [0, -0.5, 0.0099, MAX_HOP_SECONDS + 0.001, np.nan, np.inf, -np.inf, 1e308]
)
def test_a_hop_beyond_a_bound_is_refused(hop_seconds):
    with pytest.raises(RecipeError, match=r"give seconds from 0\.01 to 3600"):
        layout(hop_seconds=hop_seconds)
