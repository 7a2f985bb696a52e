"""What the theory says in formulas, to be held against what optimisation finds.

Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020, arXiv:2005.00944):
Proposition 3, Theorem 2, and beside them a prediction of our own of when a source helps.

Shapes: n samples, d dimensions, k tasks, r width.
"""

import numpy as np

from models.errors import SettingError
from models.theory.linear_tasks import Floats


def optimal_subspace(inputs: Floats, labels: Floats, weights: Floats, width: int) -> Floats:
    """Proposition 3: the column span of the optimal B for tasks that share their inputs, as an orthonormal (d, r).

    With X = U D V^T of rank d it is the span of (X^T X)^-1 V D Q_r, where the columns of Q_r span the top r eigenspace
    of sum_i alpha_i U^T y_i y_i^T U.

    Args:
        inputs: X, (n, d), of rank d. labels: (n, k). weights: alpha, (k,), none negative. width: r, 1 to k.

    Raises:
        SettingError: the width exceeds the number of tasks, where the optimum is not unique.
    """
    if width > labels.shape[1]:
        raise SettingError(f"Proposition 3 holds for widths up to the {labels.shape[1]} tasks; got {width}")
    u, scale, v_t = np.linalg.svd(inputs, full_matrices=False)
    seen = u.T @ labels
    top = np.linalg.eigh((seen * weights) @ seen.T)[1][:, -width:]
    return np.asarray(np.linalg.qr(v_t.T @ (top / scale[:, None]))[0])  # (X^T X)^-1 V D = V D^-1


def largest_sine(first: Floats, second: Floats) -> float:
    """Sine of the largest angle between the column spans of two (d, r), in [0, 1]; exact near 0."""
    q, p = np.linalg.qr(first)[0], np.linalg.qr(second)[0]
    return float(np.linalg.norm(p - q @ (q.T @ p), 2))


def theorem_2_c(target_inputs: Floats, cosine: float) -> float:
    """Theorem 2's c = kappa(X_2) sin(theta_1, theta_2), with the condition number of the target's inputs (n, d)."""
    return float(np.linalg.cond(target_inputs) * np.sqrt(1 - cosine**2))


def theorem_2_bound(c: float, noise_share: float) -> float:
    """Theorem 2: the most that ||B A_2 - theta_2|| / ||theta_2|| comes to with a source of sufficiently many samples.

    c: at most 1/3, see `theorem_2_c`. noise_share: ||e_2|| / ||X_2 theta_2||.

    Raises:
        SettingError: c exceeds 1/3.
    """
    if c > 1 / 3:
        raise SettingError(f"Theorem 2 needs c = kappa(X_2) sin(theta_1, theta_2) of at most 1/3; got {c:.3g}")
    return float("inf") if 3 * c == 1 else 6 * c + noise_share / (1 - 3 * c)


def predicted_excess_error(
    target: tuple[Floats, int], source: tuple[Floats, int], difference: Floats, noise: float
) -> float:
    """Expected excess error of the target when both tasks are fitted by one theta, for many samples.

    At the optimum of width 1 with thetas of equal length the heads are about equal, and B is about the least squares
    solution of the pooled data: with S_i = m_i Sigma_i,

        ||Sigma_1^(1/2) (S_1 + S_2)^-1 S_2 (theta_2 - theta_1)||^2  +  noise^2 tr(Sigma_1 (S_1 + S_2)^-1)

    The first term is what the source's other theta costs, in the directions in which the source has more to say than
    the target; the second is what its samples save. Not from the paper.

    Args:
        target, source: covariance (d, d) and number of samples. difference: theta_2 - theta_1, (d,).
    """
    (cov_1, m_1), (cov_2, m_2) = target, source
    pooled = np.linalg.inv(m_1 * cov_1 + m_2 * cov_2)
    bias = pooled @ (m_2 * (cov_2 @ difference))
    return float(bias @ cov_1 @ bias + noise**2 * np.trace(cov_1 @ pooled))


def expected_own_error(samples: int, dimensions: int, noise: float) -> float:
    """Expected excess error of least squares on normal inputs of any covariance: noise^2 d / (m - d - 1)."""
    return noise**2 * dimensions / (samples - dimensions - 1)
