"""scikit-learn on Tensors: with array_api_dispatch, estimators and metrics compute in accel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", minversion="1.9")

import sklearn
from sklearn import linear_model, metrics, mixture, model_selection, preprocessing
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_approximation import Nystroem
from sklearn.metrics import pairwise
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline

Check = Callable[..., None]
Cases = dict[str, tuple[Any, ...]]

#: scikit-learn makes arrays of the default dtype, float32 here, in what these test.
DEFAULT_FLOATS = 2e-6

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 5)) @ RANDOM.normal(size=(5, 5))
GAPS = np.where(X > 3.0, np.nan, X)
TARGET = X @ RANDOM.normal(size=5) + 0.1 * RANDOM.normal(size=60)
CLASSES, BINARY = np.digitize(TARGET, [-1, 1]), (TARGET > 0).astype(np.int64)
GUESSES = np.where(RANDOM.uniform(size=60) < 0.8, CLASSES, 0)
BINARY_GUESSES = np.where(RANDOM.uniform(size=60) < 0.8, BINARY, 1 - BINARY)
LABELS, LABEL_GUESSES = RANDOM.integers(0, 2, (2, 60, 3))
SCORES, SHARES = RANDOM.uniform(0.05, 0.95, 60), RANDOM.dirichlet(np.ones(3), 60)
WEIGHTS = RANDOM.uniform(0.5, 2.0, 60)
POSITIVE = np.abs(TARGET) + 0.1
NEAR = POSITIVE * 1.1 + 0.05 * SCORES


@pytest.fixture(autouse=True)
def _dispatching() -> Iterator[None]:
    with sklearn.config_context(array_api_dispatch=True):
        yield


def ids(cases: Cases) -> Any:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def run(case: Any, agrees_with_numpy: Check) -> None:
    function, *arrays = case
    tolerance = arrays.pop() if isinstance(arrays[-1], float) else 1e-9
    agrees_with_numpy(function, *arrays, tolerance=tolerance)


def fitted(make: Callable[[], Any], methods: str) -> Callable[..., Any]:
    """What an estimator learns from arrays and what its methods make of the first."""

    def results(x: Any, *targets: Any) -> Any:
        model = make().fit(x, *targets)
        learned = {name: value for name, value in vars(model).items()
                   if name.endswith("_") and hasattr(value, "dtype")}  # fmt: skip
        return learned, [getattr(model, name)(x) for name in methods.split()]

    return results


def components(**options: Any) -> Callable[..., Any]:
    """All that a PCA computes; its signs are made unique by scikit-learn."""

    def results(x: Any) -> Any:
        model = PCA(**options).fit(x)
        parts = model.transform(x)
        return (model.components_, model.singular_values_, model.explained_variance_ratio_,
                model.mean_, parts, PCA(**options).fit_transform(x),
                model.inverse_transform(parts), model.get_covariance(), model.get_precision(),
                model.score_samples(x))  # fmt: skip

    return results


def there_and_back(make: Callable[[], Any]) -> Callable[..., Any]:
    def results(x: Any) -> Any:
        scaler = make().partial_fit(x[:30]).partial_fit(x[30:])
        return scaler.inverse_transform(scaler.transform(x))

    return results


def gaussians(**options: Any) -> Callable[..., Any]:
    # Full covariances are left out: scikit-learn writes to them through views.
    return fitted(
        lambda: mixture.GaussianMixture(2, init_params="random_from_data", random_state=0,
                                        max_iter=5, tol=0.0, **options),
        "predict predict_proba score_samples",
    )  # fmt: skip


ESTIMATORS: Cases = {
    "PCA full": (components(n_components=2, svd_solver="full"), X),
    "PCA whitened": (components(svd_solver="full", whiten=True), X),
    "PCA by variance": (components(n_components=0.9, svd_solver="full"), X),
    "PCA by likelihood": (components(n_components="mle", svd_solver="full"), X),
    "PCA covariance": (components(n_components=3, svd_solver="covariance_eigh"), X),
    "PCA randomized": (components(n_components=2, svd_solver="randomized", random_state=0,
                                  power_iteration_normalizer="QR"), X),
    "PCA float32": (components(n_components=2, svd_solver="full"), X.astype(np.float32), 1e-4),
    "LDA": (fitted(LinearDiscriminantAnalysis, """predict predict_proba predict_log_proba transform
                   decision_function"""), X, CLASSES),
    "Ridge": (fitted(lambda: linear_model.Ridge(solver="svd"), "predict"), X, TARGET),
    "Ridge auto": (fitted(linear_model.Ridge, "predict"), X, TARGET),
    "Ridge weights": (fitted(lambda: linear_model.Ridge(solver="svd"), "predict"), X, TARGET,
                      WEIGHTS),
    "Ridge targets": (fitted(lambda: linear_model.Ridge(solver="svd"), "predict"), X, X[:, :2]),
    "RidgeCV": (fitted(linear_model.RidgeCV, "predict"), X, TARGET),
    "RidgeClassifier": (fitted(lambda: linear_model.RidgeClassifier(solver="svd"),
                               "predict decision_function"), X, CLASSES),
    "RidgeClassifierCV": (fitted(linear_model.RidgeClassifierCV, "predict"), X, BINARY),
    "LogisticRegression": (fitted(linear_model.LogisticRegression, "predict predict_proba"), X,
                           CLASSES, 1e-5),
    "GaussianNB": (fitted(GaussianNB, "predict predict_proba"), X, CLASSES),
    "GaussianMixture diag": (gaussians(covariance_type="diag"), X),
    "GaussianMixture spherical": (gaussians(covariance_type="spherical"), X),
    "Nystroem": (lambda x: Nystroem(n_components=8, random_state=0).fit_transform(x), X),
    "pipeline": (lambda x, y: make_pipeline(
        preprocessing.StandardScaler(), PCA(2, svd_solver="full"),
        linear_model.Ridge(solver="svd")).fit(x, y).predict(x), X, TARGET),
    "cross_val_predict": (lambda x, y: model_selection.cross_val_predict(
        LinearDiscriminantAnalysis(), x, y), X, BINARY),
    "cross_val_score": (lambda x, y: model_selection.cross_val_score(
        linear_model.Ridge(solver="svd"), x, y).tolist(), X, TARGET),
    "grid search": (lambda x, y: model_selection.GridSearchCV(
        linear_model.Ridge(solver="svd"), {"alpha": [0.1, 1.0]}).fit(x, y).best_score_, X, TARGET),
}  # fmt: skip


@ids(ESTIMATORS)
def test_estimators(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


PREPARING: Cases = {
    name: (fitted(lambda make=make: make(), "transform"), X)
    for name, make in {
        "StandardScaler": preprocessing.StandardScaler,
        "MinMaxScaler": preprocessing.MinMaxScaler,
        "MaxAbsScaler": preprocessing.MaxAbsScaler,
        "Normalizer": preprocessing.Normalizer,
        "Normalizer l1": lambda: preprocessing.Normalizer("l1"),
        "Normalizer max": lambda: preprocessing.Normalizer("max"),
        "PolynomialFeatures": preprocessing.PolynomialFeatures,
        "interactions": lambda: preprocessing.PolynomialFeatures(
            3, interaction_only=True, include_bias=False),
        "Binarizer": lambda: preprocessing.Binarizer(threshold=0.2),
    }.items()
} | {
    "gaps": (fitted(preprocessing.StandardScaler, "transform"), GAPS),
    "gaps in range": (fitted(preprocessing.MinMaxScaler, "transform"), GAPS),
    "back from StandardScaler": (there_and_back(preprocessing.StandardScaler), X),
    "back from MinMaxScaler": (there_and_back(preprocessing.MinMaxScaler), X),
    "back from MaxAbsScaler": (there_and_back(preprocessing.MaxAbsScaler), X),
    "KernelCenterer": (lambda x: preprocessing.KernelCenterer().fit_transform(x @ x.T), X),
    "LabelEncoder": (lambda y: preprocessing.LabelEncoder().fit_transform(y), CLASSES),
    "LabelBinarizer": (lambda y: preprocessing.LabelBinarizer().fit_transform(y), CLASSES),
    "normalize": (lambda x: preprocessing.normalize(x, return_norm=True), X),
    "train_test_split": (
        lambda x, y: model_selection.train_test_split(x, y, random_state=0), X, CLASSES),
    "stratified": (lambda x, y: model_selection.train_test_split(
        x, y, random_state=0, stratify=y), X, CLASSES),
    "shuffle": (lambda x: sklearn.utils.shuffle(x, random_state=0), X),
}  # fmt: skip


@ids(PREPARING)
def test_preparing(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


def named(names: str, label: str, *arrays: Any, **options: Any) -> Cases:
    return {f"{name} {label}": (partial(getattr(metrics, name), **options), *arrays)
            for name in names.split()}  # fmt: skip


def weighted(names: str, *arrays: Any) -> Cases:
    def case(function: Any) -> Any:
        return lambda y, guess, weights: function(y, guess, sample_weight=weights)

    return {f"{name} weighted": (case(getattr(metrics, name)), *arrays) for name in names.split()}


COUNTED = "accuracy_score zero_one_loss hamming_loss"
PRECISIONS = "f1_score precision_score recall_score jaccard_score"
ERRORS = """mean_squared_error root_mean_squared_error mean_absolute_error r2_score
    mean_absolute_percentage_error median_absolute_error explained_variance_score
    d2_absolute_error_score mean_pinball_loss mean_squared_log_error"""
DEVIANCES = "mean_tweedie_deviance d2_tweedie_score mean_poisson_deviance mean_gamma_deviance"
METRICS: Cases = {
    **named(f"{COUNTED} {PRECISIONS} confusion_matrix balanced_accuracy_score cohen_kappa_score "
            "matthews_corrcoef multilabel_confusion_matrix", "of two", BINARY, BINARY_GUESSES,
            DEFAULT_FLOATS),
    **named(f"{COUNTED} confusion_matrix", "of three", CLASSES, GUESSES, DEFAULT_FLOATS),
    **named(PRECISIONS, "macro", CLASSES, GUESSES, DEFAULT_FLOATS, average="macro"),
    **named(PRECISIONS, "micro", CLASSES, GUESSES, DEFAULT_FLOATS, average="micro"),
    **named(PRECISIONS, "apart", CLASSES, GUESSES, DEFAULT_FLOATS, average=None),
    **named(PRECISIONS, "samples", LABELS, LABEL_GUESSES, DEFAULT_FLOATS, average="samples"),
    **named(COUNTED, "of labels", LABELS, LABEL_GUESSES, DEFAULT_FLOATS),
    **weighted(f"{COUNTED} confusion_matrix", CLASSES, GUESSES, WEIGHTS, DEFAULT_FLOATS),
    **named(f"{ERRORS} {DEVIANCES} max_error", "of one", POSITIVE, NEAR),
    **named(ERRORS, "of several", np.abs(X) + 0.1, np.abs(X) * 1.1 + 0.2,
            multioutput="raw_values"),
    **weighted(f"{ERRORS} {DEVIANCES}", POSITIVE, NEAR, WEIGHTS),
    **named("log_loss brier_score_loss roc_curve roc_auc_score precision_recall_curve "
            "average_precision_score det_curve d2_brier_score", "of two", BINARY, SCORES,
            DEFAULT_FLOATS),
    **named("log_loss brier_score_loss d2_log_loss_score", "of three", CLASSES, SHARES,
            DEFAULT_FLOATS),
    **named("calinski_harabasz_score davies_bouldin_score", "of three", X, CLASSES),
    **named("adjusted_rand_score normalized_mutual_info_score", "of three", CLASSES, GUESSES,
            DEFAULT_FLOATS),
}  # fmt: skip


@ids(METRICS)
def test_metrics(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


DISTANCES: Cases = {
    name: (getattr(pairwise, name), X, X[:7])
    for name in """cosine_similarity cosine_distances euclidean_distances manhattan_distances
        linear_kernel polynomial_kernel rbf_kernel laplacian_kernel
        sigmoid_kernel pairwise_distances""".split()
} | {
    name: (getattr(pairwise, name), X, X + 1)
    for name in """paired_euclidean_distances paired_cosine_distances
        paired_manhattan_distances""".split()
} | {
    "additive_chi2_kernel": (pairwise.additive_chi2_kernel, np.abs(X), np.abs(X[:5])),
    "chi2_kernel": (pairwise.chi2_kernel, np.abs(X), np.abs(X[:5])),
    "nearest": (pairwise.pairwise_distances_argmin, X, X[:4]),
}  # fmt: skip


@ids(DISTANCES)
def test_distances(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)
