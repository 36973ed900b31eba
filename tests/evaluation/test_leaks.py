"""Nothing of a test part reaches what is fitted: a detector, and known leaks that it must find."""

from dataclasses import replace

import numpy as np
import pytest
from made_problems import problem
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectKBest, f_classif, f_regression
from sklearn.preprocessing import StandardScaler

from kerasrep.evaluation.probing.labelled import evaluate_labelled

KINDS = ["classification", "regression"]
LINEAR = {"classification": ["linear_svm", "logistic"], "regression": ["ridge", "svr"]}


def leaks(evaluate, kind, splits=True):
    """Whether predictions for some test items change with the embeddings and labels of others.

    `evaluate` is called as `evaluate_labelled`. With the data set's own split, half of the test part gets
    extreme embeddings and other labels. Without one, labels make the folds, so embeddings alone are changed:
    half of the test part of each fold in turn, and only the other half of that fold is looked at.
    """
    rng = np.random.default_rng(1)
    data, embeddings = problem(kind, n_items=80, splits=["train"] * 50 + ["test"] * 30 if splits else None)
    before = evaluate(data, embeddings, kind)
    rows = {name: row for row, name in enumerate(data.item_ids)}
    for fold in (0,) if splits else (0, 1):
        tested = [rows[name] for name in before[0].unit_ids[before[0].unit_folds == fold]]
        changed = np.array(tested[::2])
        other = embeddings.copy()
        other[changed] = 1e4 * rng.normal(size=other[changed].shape)
        labels = data.labels.copy()
        if splits:
            labels[changed] = np.roll(labels[changed], 1)
            if kind == "regression":
                labels[changed] *= 50
        after = evaluate(replace(data, labels=labels), other, kind)
        for one, two in zip(before, after, strict=True):
            kept = ~np.isin(one.unit_ids, np.array(data.item_ids)[changed])
            if splits is False:
                kept &= one.unit_folds == fold
            assert kept.sum() >= 5
            if (one.predictions[kept] != two.predictions[kept]).any():
                return True
    return False


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("options", [{}, {"tune": True}], ids=["default C", "chosen C"])
def test_nothing_of_the_test_part_reaches_fitting(kind, splits, options):
    def evaluate(data, embeddings, kind):
        probes = LINEAR[kind] if options else None
        return evaluate_labelled(data, embeddings, kind, probes=probes, n_folds=2, **options)

    assert not leaks(evaluate, kind, splits)


def scaled_with_all(data, embeddings, kind):
    scaled = StandardScaler().fit_transform(embeddings).astype(np.float32)
    return evaluate_labelled(data, np.round(scaled, 2), kind, probes=LINEAR[kind])


def features_chosen_with_all(data, embeddings, kind):
    score = f_regression if kind == "regression" else f_classif
    best = SelectKBest(score, k=5).fit(embeddings, data.labels)
    return evaluate_labelled(data, best.transform(embeddings), kind, probes=LINEAR[kind])


def whitened_with_all(data, embeddings, kind):
    whitened = PCA(5, whiten=True, random_state=0).fit_transform(embeddings)
    return evaluate_labelled(data, whitened, kind, probes=LINEAR[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("leaky", [scaled_with_all, features_chosen_with_all, whitened_with_all])
def test_the_leak_detector_finds_known_leaks(kind, splits, leaky):
    assert leaks(leaky, kind, splits)


@pytest.mark.parametrize("name", ["linear_svm", "logistic", "mlp"])
def test_a_label_written_into_the_test_embeddings_alone_is_of_no_use(name):
    # Whoever peeks at the test part gets everything right from the first three features.
    splits = ["train"] * 60 + ["test"] * 40
    data, embeddings = problem("classification", noise=0, splits=splits)
    embeddings = np.random.default_rng(2).normal(size=(100, 20)).astype(np.float32)
    written = (data.labels[:, None] == np.array(list("abc"))).astype(np.float32)
    embeddings[60:, :3] += 20 * written[60:][:, [1, 2, 0]]
    result = evaluate_labelled(data, embeddings, "classification", probes=[name])[0]
    assert result.mean < 0.6
    embeddings[:, :3] = written
    assert evaluate_labelled(data, embeddings, "classification", probes=[name])[0].mean > 0.9
