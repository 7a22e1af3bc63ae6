"""What the features contributed to a score, as each library says it; a row adds up to the model's own raw score."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from headrace.models.matrix import Contribute, NotTold, Rows, Score

TABLE_BYTES_MAX = 512 << 20  # of what the leaves of a forest contribute, which is kept for each
EXACT = 1e-6  # the share by which a row may add up to something else
SINGLE = 1e-4  # the same of XGBoost, which adds in numbers of four bytes
SAMPLE_COUNT = 16


_SAME_FEATURES = ("MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler")


def lightgbm(booster: Any, column: int | None) -> Contribute:
    """Return how to ask a booster: exact Shapley values of its trees (TreeSHAP)."""
    raw = _of_class(lambda rows: booster.predict(rows, raw_score=True, num_threads=1), column)

    def contribute(rows: Rows) -> Any:
        made = booster.predict(rows, pred_contrib=True, num_threads=1)
        width = booster.num_feature() + 1
        return made.reshape(len(rows), -1, width)[:, column or 0] if made.shape[1] > width else made

    return _checked(contribute, raw, booster.num_feature(), EXACT)


def xgboost(booster: Any, column: int | None) -> Contribute:
    """Return how to ask a booster: exact Shapley values of its trees (TreeSHAP)."""
    from xgboost import DMatrix  # noqa: PLC0415 - whoever has a booster has it

    def ask(rows: Rows, **how: bool) -> Any:
        return booster.predict(DMatrix(rows, nthread=1), validate_features=False, **how)

    def contribute(rows: Rows) -> Any:
        made = ask(rows, pred_contribs=True)
        return made[:, column or 0] if made.ndim == 3 else made

    raw = _of_class(lambda rows: ask(rows, output_margin=True), column)
    return _checked(contribute, raw, booster.num_features(), SINGLE)


def sklearn(steps: Sequence[Any], score: Score, method: str, column: int | None) -> Contribute:
    """Return what trees of scikit-learn contribute: along the path of a row, each split moves the mean of its rows.

    The mean is that of the training rows that come to a node, so a tree begins with the mean of all of them and ends
    with its leaf. What a leaf's path contributes is known beforehand, a table for each tree.
    """
    *before, last = steps
    name, count = type(last).__name__, last.n_features_in_
    if odd := [type(step).__name__ for step in before if type(step).__name__ not in _SAME_FEATURES]:
        raise NotTold(f"{odd[0]} makes other features of those that it gets")
    if name in ("DecisionTreeClassifier", "DecisionTreeRegressor", "ExtraTreeClassifier", "ExtraTreeRegressor"):
        trees, share = [last], 1.0
    elif name.startswith(("RandomForest", "ExtraTrees")):
        trees, share = list(last.estimators_), 1.0 / len(last.estimators_)
    else:
        raise NotTold(f"of scikit-learn's models trees, forests and linear models do, and {name} does not")
    if method not in ("predict_proba", "predict"):
        raise NotTold(f"it is asked for {method}")
    leaves = sum(tree.tree_.node_count for tree in trees)
    if leaves * (count + 1) * 8 > TABLE_BYTES_MAX:
        raise NotTold(
            f"its {len(trees)} trees have {leaves:,} nodes: what each contributes would take "
            f"{leaves * (count + 1) * 8 >> 20:,} MiB; allowed are {TABLE_BYTES_MAX >> 20}"
        )
    tables = [_table(tree.tree_, count, column if method == "predict_proba" else None) * share for tree in trees]

    def contribute(rows: Rows) -> Any:
        for step in before:
            rows = step.transform(rows)
        single = np.asarray(rows, np.float32)
        made = np.zeros((len(rows), count + 1))
        for tree, table in zip(trees, tables, strict=True):
            made += table[tree.tree_.apply(single)]
        return made

    return _checked(contribute, _of_class(score, column), count, EXACT)


def _table(tree: Any, count: int, column: int | None) -> Any:
    """Return what the path to each node of a tree contributes, and in the last column where it begins."""
    values = tree.value[:, 0, :]
    if column is not None:
        values = values / values.sum(axis=1, keepdims=True)
    means = values[:, column or 0]
    table = np.zeros((tree.node_count, count + 1))
    table[0, -1] = means[0]
    for node in range(tree.node_count):  # a child comes after its parent
        for child in (tree.children_left[node], tree.children_right[node]):
            if child > node:
                table[child] = table[node]
                table[child, tree.feature[node]] += means[child] - means[node]
    return table


def _of_class(ask: Callable[[Rows], Any], column: int | None) -> Callable[[Rows], Any]:
    def asked(rows: Rows) -> Any:
        made = np.asarray(ask(rows))
        return made if made.ndim == 1 else made[:, column or 0]

    return asked


def _checked(contribute: Contribute, raw: Callable[[Rows], Any], count: int, exact: float) -> Contribute:
    """Return it, once it has been seen that rows add up to what the model says, and that none shows in another's."""
    rows = np.random.default_rng(1).normal(size=(SAMPLE_COUNT, count))
    try:
        with np.errstate(all="ignore"):
            made, want = np.asarray(contribute(rows)), np.asarray(raw(rows))
            alone = np.concatenate([np.asarray(contribute(rows[at : at + 1])) for at in range(SAMPLE_COUNT)])
    except Exception as error:
        raise NotTold(f"asked for it, the library raised {type(error).__name__}: {error}") from error
    if made.shape != (SAMPLE_COUNT, count + 1):
        raise NotTold(f"what it says of {SAMPLE_COUNT} rows has the shape {made.shape}")
    if not np.allclose(made.sum(axis=1), want, rtol=exact, atol=exact):
        raise NotTold("what its features contribute does not add up to what it says")
    if made.tobytes() != alone.tobytes():
        raise NotTold("what is contributed to an event depends on the others of its batch")
    return contribute
