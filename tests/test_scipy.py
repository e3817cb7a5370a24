"""SciPy on Tensors: functions that work on any arrays of the standard make Tensors of Tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy", minversion="1.17")

from scipy import (
    constants,
    differentiate,
    fft,
    integrate,
    interpolate,
    ndimage,
    signal,
    special,
    stats,
)
from scipy.cluster import hierarchy, vq
from scipy.optimize import elementwise, rosen, rosen_der, rosen_hess
from scipy.spatial.transform import RigidTransform, Rotation, Slerp

Check = Callable[..., None]
Cases = dict[str, tuple[Any, ...]]

#: The libraries make arrays of the default dtype, float32 here, in what these test.
DEFAULT_FLOATS = 2e-6

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(20, 3)), RANDOM.normal(size=(20, 3)) + 0.3
POSITIVE, SHARES = np.abs(X) + 0.1, np.array([0.2, 0.3, 0.5])
UNIT = RANDOM.uniform(0.05, 0.95, (20, 3))
COUNTS = RANDOM.integers(1, 9, (20, 3)).astype(float)
SIGNAL, IMAGE = RANDOM.normal(size=64), RANDOM.normal(size=(8, 6))
QUATERNIONS = RANDOM.normal(size=(5, 4))


def like(x: Any, *values: Any) -> Any:
    """`values` in an array of the library, dtype and device of `x`."""
    return x.__array_namespace__().asarray(values, dtype=x.dtype)


def ids(cases: Cases) -> Any:
    return pytest.mark.parametrize("case", cases.values(), ids=cases.keys())


def named(module: Any, names: str, *arrays: Any) -> Cases:
    return {name: (getattr(module, name), *arrays) for name in names.split()}


# -- special functions ----------------------------------------------------------------------
SPECIAL: Cases = {
    **named(special, "erf erfc expit log_ndtr ndtr i0 i0e i1 i1e entr", X),
    **named(special, "gammaln gamma digamma psi exp1 expi logit erfinv ndtri", UNIT),
    **named(special, "logsumexp softmax log_softmax", X),
    **named(special, "rel_entr kl_div xlogy xlog1py gammainc gammaincc chdtr chdtrc betaln",
            POSITIVE, UNIT),
    **named(special, "betainc betaincc fdtr", POSITIVE, POSITIVE, UNIT),
    "stdtr": (special.stdtr, COUNTS, X), "stdtrit": (special.stdtrit, COUNTS, UNIT),
    "multigammaln": (lambda a: special.multigammaln(a, 2), COUNTS + 2),
    "logsumexp axis": (lambda a: special.logsumexp(a, axis=1, keepdims=True), X),
    "logsumexp weights": (lambda a, b: special.logsumexp(a, axis=0, b=b), X, UNIT),
    "logsumexp sign": (lambda a, b: special.logsumexp(a, axis=0, b=b, return_sign=True), X, Y),
    "logsumexp complex": (special.logsumexp, X + 1j * Y),
    "logsumexp -inf": (special.logsumexp, np.array([-np.inf, -np.inf])),
    "logsumexp inf": (special.logsumexp, np.array([np.inf, 1.0])),
    "logsumexp empty": (lambda a: special.logsumexp(a, axis=1), np.zeros((3, 0))),
    "erf float32": (special.erf, X.astype(np.float32), 1e-6),
    "erf 0-d": (special.erf, np.array(0.3)),
}  # fmt: skip


@ids(SPECIAL)
def test_special(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


def run(case: Any, agrees_with_numpy: Check) -> None:
    function, *arrays = case
    tolerance = arrays.pop() if isinstance(arrays[-1], float) else 1e-10
    agrees_with_numpy(function, *arrays, tolerance=tolerance)


# -- statistics -----------------------------------------------------------------------------
STATS: Cases = {
    **named(stats, """moment skew kurtosis variation zscore sem describe normaltest jarque_bera
            skewtest kurtosistest tmean tvar tmin tmax tstd tsem kstat kstatvar circmean circvar
            circstd lmoment""", X),
    **named(stats, "gmean hmean gzscore gstd entropy", POSITIVE),
    **named(stats, "ttest_ind ttest_rel pearsonr zmap", X, Y),
    **named(stats, "bartlett levene f_oneway ttest_rel pearsonr kruskal mannwhitneyu wilcoxon",
            X[:, 0], Y[:, 0], DEFAULT_FLOATS),
    "rankdata": (stats.rankdata, COUNTS, DEFAULT_FLOATS),
    "rankdata axis": (lambda a: stats.rankdata(a, axis=0), COUNTS, DEFAULT_FLOATS),
    "directions": (lambda a: stats.directional_stats(a).mean_direction, X),
    "pmean": (lambda a: stats.pmean(a, 3), POSITIVE),
    "trim_mean": (lambda a: stats.trim_mean(a, 0.1), X),
    "skew unbiased": (lambda a: stats.skew(a, axis=None, bias=False), X),
    "kurtosis unbiased": (lambda a: stats.kurtosis(a, axis=1, fisher=False, bias=False), X),
    "moments": (lambda a: stats.moment(a, order=[1, 2, 3]), X),
    "quantile": (lambda a: stats.quantile(a, 0.3, axis=0), X, DEFAULT_FLOATS),
    "median unbiased": (
        lambda a: stats.quantile(a, 0.3, axis=0, method="median_unbiased"), X, DEFAULT_FLOATS),
    "Welch": (lambda a, b: stats.ttest_ind(a, b, equal_var=False), X, Y),
    "ttest_1samp": (lambda a: stats.ttest_1samp(a, 0.0), X),
    "interval": (lambda a: stats.ttest_1samp(a, 0.0).confidence_interval(0.9), X),
    "correlation interval": (
        lambda a, b: stats.pearsonr(a, b).confidence_interval(), X[:, 0], Y[:, 0], DEFAULT_FLOATS),
    "chisquare": (stats.chisquare, COUNTS),
    "log-likelihood": (lambda a: stats.power_divergence(a, lambda_="log-likelihood"), COUNTS),
    "relative entropy": (stats.entropy, SHARES, SHARES[::-1].copy()),
    "combine_pvalues": (stats.combine_pvalues, SHARES),
    "discoveries": (stats.false_discovery_control, SHARES),
    "float32": (lambda a: stats.ttest_1samp(a, 0.0), X.astype(np.float32), 1e-5),
    "NaN": (lambda a: stats.variation(a, nan_policy="propagate"),
            np.where(X > 1.2, np.nan, POSITIVE)),
}  # fmt: skip


@ids(STATS)
def test_stats(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


# -- transforms, signals and images -----------------------------------------------------------
SIGNALS: Cases = {
    **named(fft, """fft ifft rfft hfft ihfft fftn ifftn rfftn fft2 ifft2 rfft2 dct idct dst idst
            dctn dstn fftshift ifftshift""", IMAGE),
    **named(fft, "irfft irfftn irfft2", IMAGE + 1j * IMAGE[::-1]),
    "fft options": (lambda a: fft.rfft(a, n=10, axis=0, norm="ortho"), IMAGE),
    "fftfreq": (lambda a: fft.fftfreq(5, xp=a.__array_namespace__()), SIGNAL, DEFAULT_FLOATS),
    **named(signal, "fftconvolve convolve2d", IMAGE, IMAGE[:3, :3]),
    **named(signal, "convolve correlate", SIGNAL, SIGNAL[:5]),
    **named(signal, "hilbert medfilt wiener detrend envelope", SIGNAL),
    "lfilter": (lambda a: signal.lfilter(a[:3], a[3:6], a), SIGNAL),
    "filtfilt": (
        lambda a: signal.filtfilt(like(a, 0.1, 0.2, 0.1), like(a, 1.0, -0.3, 0.1), a), SIGNAL),
    "sosfilt": (lambda a: signal.sosfilt(
        like(a, *signal.butter(4, 0.3, output="sos").tolist()), a), SIGNAL),
    "resample": (lambda a: signal.resample(a, 40), SIGNAL),
    "resample_poly": (lambda a: signal.resample_poly(a, 3, 2), SIGNAL),
    "savgol": (lambda a: signal.savgol_filter(a, 5, 2), SIGNAL),
    "windows": (lambda a: [signal.get_window(name, 9, xp=a.__array_namespace__()) for name in (
        "boxcar", "hann", "hamming", "blackman", "parzen", "flattop", ("kaiser", 3.0))],
        SIGNAL, DEFAULT_FLOATS),
    "freqz": (lambda a: signal.freqz(a[:4], worN=16), SIGNAL, DEFAULT_FLOATS),
    **named(ndimage, "sobel laplace spline_filter center_of_mass", IMAGE),
    "gaussian_filter": (lambda a: ndimage.gaussian_filter(a, 1.0), IMAGE),
    "median_filter": (lambda a: ndimage.median_filter(a, 3), IMAGE),
    "zoom": (lambda a: ndimage.zoom(a, 2.0), IMAGE),
    "rotate": (lambda a: ndimage.rotate(a, 30), IMAGE),
    "label": (lambda a: ndimage.label(a > 0), IMAGE),
}  # fmt: skip


@ids(SIGNALS)
def test_signals(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)


# -- clusters, integrals, roots, rotations ------------------------------------------------------
def root_of_square(f: Any) -> Any:
    return elementwise.find_root(lambda t, k: t * t - k, (f * 0, f * 0 + 9), args=(f,)).x


NUMERICS: Cases = {
    "whiten": (vq.whiten, IMAGE), "vq": (lambda a: vq.vq(a, a[:3]), IMAGE),
    "kmeans2": (lambda a: vq.kmeans2(a, a[:3], minit="matrix"), IMAGE),
    "linkage": (hierarchy.linkage, IMAGE),
    "trapezoid": (lambda a: integrate.trapezoid(a, axis=0), IMAGE),
    "cumulative_trapezoid": (
        lambda a: integrate.cumulative_trapezoid(a, axis=1, initial=0), IMAGE),
    "cumulative_simpson": (integrate.cumulative_simpson, IMAGE, DEFAULT_FLOATS),
    "tanhsinh": (lambda a: integrate.tanhsinh(lambda t: t * t, a, a + 1).integral, SIGNAL[:5]),
    "find_root": (root_of_square, POSITIVE[0]),
    "find_minimum": (lambda a: elementwise.find_minimum(
        lambda t, k: (t - k) ** 2, (a * 0 - 9, a * 0, a * 0 + 9), args=(a,)).x, X[0], 1e-7),
    "derivative": (lambda a: differentiate.derivative(
        a.__array_namespace__().exp, a).df, X[0], 1e-7),
    "jacobian": (lambda a: differentiate.jacobian(lambda t: t * t, a).df, X[0], 1e-7),
    "rosen": (rosen, X[0]), "rosen_der": (rosen_der, X[0]), "rosen_hess": (rosen_hess, X[0]),
    "matrix": (lambda q: Rotation.from_quat(q).as_matrix(), QUATERNIONS),
    "euler": (lambda q: Rotation.from_euler("xyz", q[:, :3]).as_euler("zyx"), QUATERNIONS),
    "rotvec": (lambda q: Rotation.from_rotvec(q[:, :3]).as_rotvec(), QUATERNIONS),
    "apply": (lambda q: Rotation.from_quat(q).apply(q[:, :3]), QUATERNIONS),
    "product": (lambda q: (Rotation.from_quat(q) * Rotation.from_quat(q[0])).as_quat(),
                QUATERNIONS),
    "magnitude": (lambda q: Rotation.from_quat(q).inv().magnitude(), QUATERNIONS),
    "mean": (lambda q: Rotation.from_quat(q).mean().as_matrix(), QUATERNIONS),
    "slerp": (lambda q: Slerp(like(q, 0, 1, 2, 3, 4), Rotation.from_quat(q))(
        like(q, 0.5, 1.5)).as_matrix(), QUATERNIONS),
    "rigid": (lambda q: RigidTransform.from_components(
        q[:, :3], Rotation.from_quat(q)).inv().apply(q[:, :3]), QUATERNIONS),
    "spline": (lambda a: interpolate.CubicSpline(a.__array_namespace__().sort(a), a)(a[:3]),
               SIGNAL),
    "grid": (lambda a: interpolate.RegularGridInterpolator(
        (like(a, *range(8)), like(a, *range(6))), a)(like(a, [1.5, 2.5])), IMAGE),
    "temperature": (lambda a: constants.convert_temperature(a, "C", "K"), SIGNAL),
    "lambda2nu": (constants.lambda2nu, SIGNAL),
}  # fmt: skip


@ids(NUMERICS)
def test_numerics(case: Any, agrees_with_numpy: Check) -> None:
    run(case, agrees_with_numpy)
