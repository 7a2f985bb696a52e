"""Closed formulas of the theory, to be compared with numerical solutions: Proposition 3, Theorem 2, expected errors.

Source: Wu, Zhang, Ré: Understanding and Improving Information Transfer in Multi-Task Learning (ICLR 2020,
arXiv:2005.00944). `predicted_excess_error`, a prediction of when a source helps, is our own and not from the paper.

Shapes: m samples, d dimensions, k tasks, r width.
"""

import numpy as np

from models.errors import SettingError
from models.theory.linear_tasks import Floats


def optimal_subspace(inputs: Floats, labels: Floats, weights: Floats, width: int) -> Floats:
    """Return the column span of the optimal B for tasks that share their inputs (Proposition 3).

    With X = U D V^T of rank d it is the span of (X^T X)^-1 V D Q_r, where the columns of Q_r span the top r eigenspace
    of sum_i alpha_i U^T y_i y_i^T U.

    Args:
        inputs: X, (m, d), of rank d.
        labels: (m, k), one column per task.
        weights: alpha, (k,), none negative.
        width: r, 1 to k.

    Returns:
        An orthonormal basis of the span, (d, r).

    Raises:
        SettingError: the width exceeds the number of tasks; the optimum is not unique then.
    """
    if width > labels.shape[1]:
        raise SettingError(f"Proposition 3 holds for widths up to the {labels.shape[1]} tasks; got {width}")
    u, scale, v_t = np.linalg.svd(inputs, full_matrices=False)
    projected = u.T @ labels
    top = np.linalg.eigh((projected * weights) @ projected.T)[1][:, -width:]
    return np.asarray(np.linalg.qr(v_t.T @ (top / scale[:, None]))[0])  # (X^T X)^-1 V D = V D^-1


def largest_sine(first: Floats, second: Floats) -> float:
    """Return the sine, in [0, 1], of the largest principal angle between two column spans, (d, r); exact near 0."""
    q, p = np.linalg.qr(first)[0], np.linalg.qr(second)[0]
    return float(np.linalg.norm(p - q @ (q.T @ p), 2))


def theorem_2_c(target_inputs: Floats, cosine: float) -> float:
    """Return Theorem 2's c = kappa(X_2) sin(theta_1, theta_2), with the condition number of the inputs X_2 (m, d)."""
    return float(np.linalg.cond(target_inputs) * np.sqrt(1 - cosine**2))


def theorem_2_bound(c: float, noise_share: float) -> float:
    """Return Theorem 2's upper bound of ||B A_2 - theta_2|| / ||theta_2||, valid once the source has enough samples.

    `noise_share` is ||e_2|| / ||X_2 theta_2||.

    Raises:
        SettingError: c exceeds 1/3, see `theorem_2_c`.
    """
    if c > 1 / 3:
        raise SettingError(f"Theorem 2 needs c = kappa(X_2) sin(theta_1, theta_2) of at most 1/3; got {c:.3g}")
    return float("inf") if 3 * c == 1 else 6 * c + noise_share / (1 - 3 * c)


def predicted_excess_error(
    target: tuple[Floats, int], source: tuple[Floats, int], difference: Floats, noise: float
) -> float:
    """Predict the target's excess error at the optimum of width 1, for thetas of equal length and many samples.

    The heads are then about equal, and B is about the least squares solution of the pooled data. With
    S_i = m_i Sigma_i, where Sigma_i is the covariance of task i's inputs:

        ||Sigma_1^(1/2) (S_1 + S_2)^-1 S_2 (theta_2 - theta_1)||^2  +  noise^2 tr(Sigma_1 (S_1 + S_2)^-1)

    The first term is the bias from the source's different theta; it is large in directions in which the source has
    more variance than the target. The second term is the variance, which the source's samples reduce. Not from the
    paper. `target` and `source` are Sigma_i (d, d) and m_i; `difference` is theta_2 - theta_1, (d,).
    """
    (cov_1, m_1), (cov_2, m_2) = target, source
    pooled = np.linalg.inv(m_1 * cov_1 + m_2 * cov_2)
    bias = pooled @ (m_2 * (cov_2 @ difference))
    return float(bias @ cov_1 @ bias + noise**2 * np.trace(cov_1 @ pooled))


def expected_single_task_error(samples: int, dimensions: int, noise: float) -> float:
    """Return noise^2 d / (m - d - 1), the expected excess error of least squares on one task with normal inputs.

    It is the same for every covariance of the inputs.
    """
    return noise**2 * dimensions / (samples - dimensions - 1)
