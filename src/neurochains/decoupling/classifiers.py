"""Classifiers of scikit-learn that tell attacked images from clean ones, and the area under their ROC curve."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neurochains.errors import SettingsError

__all__ = ["CLASSIFIERS", "auroc", "check_sklearn", "probabilities"]

Array = NDArray[np.floating]


def _forest(seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(100, random_state=seed, n_jobs=1)


def _ada_boost(seed: int) -> Any:
    from sklearn.ensemble import AdaBoostClassifier

    return AdaBoostClassifier(random_state=seed)


def _gradient_boosting(seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=50, min_samples_leaf=5, random_state=seed)


def _logistic(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, random_state=seed))


CLASSIFIERS: dict[str, Callable[[int], Any]] = {
    "random forest": _forest,
    "ada boost": _ada_boost,
    "gradient boosting": _gradient_boosting,
    "logistic regression": _logistic,
}
"""Makers of classifiers from a seed, by name."""


def check_sklearn() -> None:
    """Check that scikit-learn is there.

    Raises:
        SettingsError: it is not installed.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise SettingsError(
            "Detection needs scikit-learn, which is not installed. Install it with: pip install 'neurochains[decouple]'"
        )


def probabilities(name: str, clean: Array, attacked: Array, seed: int) -> Callable[[Array], Array]:
    """Return the function from rows ``(N, D)`` to the probability ``(N,)`` that each is attacked, after training.

    Where the rows tell nothing, and the classifier says so, it is 1/2 for all.
    """
    rows = np.concatenate([clean, attacked])
    labels = np.repeat([0, 1], [len(clean), len(attacked)])
    with warnings.catch_warnings():  # that few images end an optimisation early is no news
        warnings.simplefilter("ignore")
        try:
            fitted = CLASSIFIERS[name](seed).fit(rows, labels)
        except ValueError as error:
            if "worse than random" not in str(error):  # how boosting says that it found nothing to learn
                raise
            return lambda table: np.full(len(table), 0.5)
    return lambda table: fitted.predict_proba(table)[:, 1]


def auroc(clean: Array, attacked: Array) -> float:
    """Return the chance that an attacked image scores above a clean one, ties counting half.

    >>> auroc(np.array([0.1, 0.2]), np.array([0.2, 0.9]))
    0.875
    """
    order = np.sort(clean)
    below, upto = np.searchsorted(order, attacked, "left"), np.searchsorted(order, attacked, "right")
    return float((below + upto).mean() / (2 * len(clean)))
