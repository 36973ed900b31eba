"""Recommendation of items that nobody has played yet, from their embeddings alone.

Each repeat holds out some items with all their plays, fits a weighted matrix factorisation of the others
(`wmf`), maps the embeddings of the held-out items to factors, and ranks the held-out items, and only these,
for each user. A user's average precision at K is the task's score. Nothing of a held-out item takes part in
the fit, not even in the standardisation of the embeddings.

The task is that of Kim et al. (2018, arXiv 1802.04051); 5% held out, K = 80 and the limits of `dense` are as
in their published code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.evaluation.base import METRICS, FoldScore, PlayData, ProbeResult
from kerasrep.evaluation.recommendation.ranking import ranking_scores, user_blocks
from kerasrep.evaluation.recommendation.wmf import Factorisation, FactorisationSettings, factorise
from kerasrep.evaluation.significance import blocks_of, mean_interval

FloatArray = NDArray[np.float64]
Scorer = Callable[[slice], FloatArray]  # users -> [users, held-out items], the larger the better

_HELD_OUT, _START, _CHANCE = range(3)  # purposes of random numbers


def evaluate_recommendation(
    data: PlayData,
    embeddings: NDArray[np.float32],
    *,
    n_repeats: int = 5,
    k: int | None = None,
    seed: int = 0,
    settings: FactorisationSettings = FactorisationSettings(),  # noqa: B008 (it is frozen)
) -> tuple[ProbeResult, ...]:
    """Judge embeddings by how well they rank held-out items for users.

    The 95% intervals are of a bootstrap over users: a drawn user brings the scores of all repeats. They say
    nothing about other items.

    Args:
        data: Plays, and which items must be held out together.
        embeddings: float32 [items, dimension], in the order of `data.item_ids`.
        n_repeats: Times that other items are held out.
        k: Items of a ranking that count, `data.k` by default; all of them where there are fewer.
        seed: Of everything random.
        settings: Of the factorisation.

    Returns:
        `wmf_features`, and `chance`: the same users and held-out items in random order. Units are users with
        plays of held-out items, repeat by repeat; a user is its own group, as it stands in several repeats.

    Raises:
        DataError: Where plays or embeddings cannot be used, or too little is left on one side.
        ValueError: Where `n_repeats`, `k` or `seed` is impossible.
    """
    k = data.k if k is None else k
    if n_repeats < 1 or k < 1 or seed < 0:
        raise ValueError("n_repeats and k must be at least 1, seed at least 0")
    data = replace(data, plays=_checked_plays(data))
    _check_embeddings(data, embeddings)
    learnt, chance = _Gathered(data, k), _Gathered(data, k)
    fits: list[dict[str, Any]] = []
    for repeat in range(n_repeats):
        held_out = hold_out(data, seed, repeat)
        fitted = fit_others(data, embeddings, held_out, (seed, _START, repeat), settings)
        learnt.add(repeat, held_out, preferences(fitted, embeddings[held_out]))
        rng = np.random.default_rng((seed, _CHANCE, repeat))
        chance.add(repeat, held_out, partial(_random_scores, rng, len(held_out)))
        fits.append(_fit_details(data, k, held_out, fitted))
    details = {name: [fit[name] for fit in fits] for name in fits[0]}
    held = {name: details[name] for name in ("n_held_out_items", "k")}
    return (
        learnt.result("wmf_features", details | {"settings": asdict(settings)}, seed),
        chance.result("chance", held, seed),
    )


def dense(data: PlayData, min_user_items: int = 20, min_item_users: int = 50) -> PlayData:
    """The largest part in which each user played, and each item was played by, at least so many.

    Users and items that have too few are dropped in turns until none has.

    Args:
        data: Plays.
        min_user_items: Different items that a user must have played.
        min_item_users: Different users that must have played an item.

    Raises:
        DataError: Where nothing is left.
    """
    plays = _checked_plays(data)
    users, items = np.arange(plays.shape[0]), np.arange(plays.shape[1])
    while True:
        kept = plays[users][:, items]
        enough_users = np.diff(kept.indptr) >= min_user_items
        enough_items = np.bincount(kept.indices, minlength=len(items)) >= min_item_users
        if enough_users.all() and enough_items.all():
            break
        users, items = users[enough_users], items[enough_items]
    if not len(users) or not len(items):
        wanted = f"{min_user_items} items a user and {min_item_users} users an item"
        raise DataError(f"plays: nothing is left with at least {wanted}; ask for less, or use all plays")
    names = tuple(data.user_ids[user] for user in users)
    return replace(data, user_ids=names, plays=plays[users]).keep(items)


def hold_out(data: PlayData, seed: int, repeat: int) -> NDArray[np.intp]:
    """Items that one repeat holds out, ascending: `data.held_out_fraction` of all, and two at least.

    Where there are groups, whole groups are drawn until there are enough items.

    Raises:
        DataError: Where fewer than two items, or no plays, are left on one side.
    """
    n_items = len(data.item_ids)
    wanted = max(2, round(data.held_out_fraction * n_items))
    names = np.arange(n_items) if data.groups is None else data.groups
    _, group_of, sizes = np.unique(names, return_inverse=True, return_counts=True)
    drawn = np.random.default_rng((seed, _HELD_OUT, repeat)).permutation(len(sizes))
    n_groups = int(np.searchsorted(np.cumsum(sizes[drawn]), wanted)) + 1
    held = np.isin(group_of, drawn[:n_groups])
    place = f"plays, repeat {repeat}"
    if n_items - held.sum() < 2:
        what = "items" if data.groups is None else "items that are in no group with them"
        reason = f"{held.sum()} of {n_items} items are held out, fewer than 2 {what} are left to learn from"
        raise DataError(f"{place}: {reason}; use more items or a smaller held_out_fraction")
    for side, part in (("held out", held), ("to learn from", ~held)):
        if data.plays[:, np.flatnonzero(part)].nnz == 0:
            raise DataError(f"{place}: the items {side} have no play at all; use more items or another split")
    return np.flatnonzero(held)


def fit_others(
    data: PlayData,
    embeddings: NDArray[np.float32],
    held_out: NDArray[np.intp],
    seed: int | Sequence[int],
    settings: FactorisationSettings,
) -> Factorisation:
    """Fit on all items that are not held out; nothing of those that are is looked at."""
    others = np.setdiff1d(np.arange(len(embeddings)), held_out)
    return factorise(data.plays[:, others], embeddings[others], settings, seed)


def preferences(fitted: Factorisation, features: NDArray[np.float32]) -> Scorer:
    """Predicted preferences for items, from their features alone.

    Items with equal features are computed once, so that rounding never breaks their ties.
    """
    different, place = np.unique(features, axis=0, return_inverse=True)
    mapped = fitted.map_features(different)

    def score(users: slice) -> FloatArray:
        return (fitted.user_factors[users] @ mapped.T)[:, place.reshape(-1)]

    return score


@dataclass
class _Gathered:
    """Scores of one probe, repeat by repeat."""

    data: PlayData
    k: int
    scores: list[FoldScore] = field(default_factory=list)
    users: list[NDArray[np.intp]] = field(default_factory=list)
    ap: list[FloatArray] = field(default_factory=list)

    def add(self, repeat: int, held_out: NDArray[np.intp], score: Scorer) -> None:
        """Score one repeat; `score` knows the held-out items."""
        relevant = sparse.csr_matrix(self.data.plays[:, held_out])
        blocks = [
            ranking_scores(score(users), relevant[users], self.k)
            for users in user_blocks(relevant.shape[0], relevant.shape[1])
        ]
        found = {
            name: np.concatenate([getattr(block, name) for block in blocks])
            for name in METRICS["recommendation"]
        }
        scored = np.flatnonzero(np.diff(relevant.indptr))
        self.scores += [
            FoldScore(repeat, name, float(values[scored].mean())) for name, values in found.items()
        ]
        self.users.append(scored)
        self.ap.append(found["ap"][scored])

    def result(self, probe: str, details: dict[str, Any], seed: int) -> ProbeResult:
        """All repeats together."""
        users, ap = np.concatenate(self.users), np.concatenate(self.ap)
        names = np.array(self.data.user_ids, dtype=np.str_)[users]
        folds = np.repeat(np.arange(len(self.users)), [len(part) for part in self.users])
        low, high = mean_interval(ap, blocks_of(names, None), seed)
        return ProbeResult(
            probe=probe,
            metric=METRICS["recommendation"][0],
            mean=float(ap.mean()),
            low=low,
            high=high,
            scores=tuple(self.scores),
            unit_ids=names,
            unit_folds=folds.astype(np.int64),
            unit_scores=ap,
            unit_groups=names,
            details=details | {"n_scored_users": [len(part) for part in self.users]},
        )


def _random_scores(rng: np.random.Generator, n_items: int, users: slice) -> FloatArray:
    """Random order; users come in turn, so that the size of blocks changes nothing."""
    return rng.random((users.stop - users.start, n_items))


def _fit_details(data: PlayData, k: int, held_out: NDArray[np.intp], fitted: Factorisation) -> dict[str, Any]:
    """What is kept of one repeat, ready for JSON."""
    others = np.setdiff1d(np.arange(len(data.item_ids)), held_out)
    n_plays = np.diff(data.plays[:, others].indptr)
    return {
        "k": min(k, len(held_out)),
        "n_held_out_items": len(held_out),
        "n_items_learnt_from": len(others) - fitted.n_unplayed_items,
        "n_users_without_other_plays": int((n_plays == 0).sum()),
        "objectives": list(fitted.objectives),
    }


def _checked_plays(data: PlayData) -> sparse.csr_matrix:
    """A float64 copy without duplicates or stored zeros."""
    plays = sparse.csr_matrix(data.plays, dtype=np.float64, copy=True)
    plays.sum_duplicates()
    n_users, n_items = len(data.user_ids), len(data.item_ids)
    if plays.shape != (n_users, n_items):
        raise DataError(f"plays: are {plays.shape}, but there are {n_users} users and {n_items} items")
    if n_users < 2 or n_items < 2:
        what = f"{n_users} users and {n_items} items"
        raise DataError(f"plays: have {what}; recommendation needs at least 2 of each")
    wrong = np.flatnonzero(~np.isfinite(plays.data) | (plays.data < 0))
    if len(wrong):
        user = data.user_ids[int(np.searchsorted(plays.indptr, wrong[0], side="right")) - 1]
        item = data.item_ids[plays.indices[wrong[0]]]
        found = f"user '{user}' has {plays.data[wrong[0]]} plays of item '{item}'"
        raise DataError(f"plays: {found}; a finite number of 0 or more was expected")
    if not 0 < data.held_out_fraction < 1:
        raise DataError(
            f"held_out_fraction: is {data.held_out_fraction}; a part between 0 and 1 was expected"
        )
    plays.eliminate_zeros()
    return plays


def _check_embeddings(data: PlayData, embeddings: NDArray[np.float32]) -> None:
    if embeddings.ndim != 2 or len(embeddings) != len(data.item_ids) or embeddings.shape[1] == 0:
        expected = f"one row for each of {len(data.item_ids)} items"
        raise DataError(f"embeddings: are {embeddings.shape}, {expected} was expected")
    # One sum a row: NaN and infinity survive it, and no second matrix is made.
    wrong = np.flatnonzero(~np.isfinite(embeddings.sum(axis=1, dtype=np.float64)))
    if len(wrong):
        which = f"{len(wrong)} items, the first is '{data.item_ids[wrong[0]]}'"
        raise DataError(f"embeddings: hold NaN or infinite values for {which}; embed these items again")
