"""Closed kinematic loops, such as four-bar legs: what an <equality> holds. Imports MuJoCo and NumPy, not JAX."""

import copy

import mujoco
import numpy as np

CLOSED = 1e-6
"""Gap of a loop that counts as closed, m or rad."""
_MOST_STEPS = 50


def close_loops(model: mujoco.MjModel, qpos: np.ndarray, held: np.ndarray) -> np.ndarray:
    """Return positions with the loops of a model closed as well as possible by passive joints, (nq,).

    Gauss–Newton from `qpos`, so a linkage that closes in two ways stays on the side where it begins.

    Args:
        model: The model.
        qpos: Where to begin, (nq,).
        held: Whether each degree of freedom stays as it is, (nv,).
    """
    if not any(kind != int(mujoco.mjtEq.mjEQ_JOINT) for kind in model.eq_type) or held.all():
        return qpos
    best, (gaps, jacobian) = np.array(qpos), _equalities(model, qpos)
    for _ in range(_MOST_STEPS):
        if np.abs(gaps).max(initial=0.0) < CLOSED:
            break
        step = np.zeros(model.nv)
        step[~held] = np.linalg.lstsq(jacobian[:, ~held], -gaps, rcond=1e-6)[0]
        trial = np.array(best)
        mujoco.mj_integratePos(model, trial, step * min(1.0, 0.3 / max(np.abs(step).max(), 1e-9)), 1.0)
        best, (gaps, jacobian) = trial, _equalities(model, trial)
    return best


def followers(model: mujoco.MjModel, qpos: np.ndarray, driven: np.ndarray, passive: np.ndarray) -> np.ndarray:
    """Return how far passive joints move with driven ones where what an <equality> holds stays held, (n, m).

    Args:
        model: The model.
        qpos: Where, (nq,).
        driven: Indices of the degrees of freedom that are moved, (m,).
        passive: Those that follow, (n,).
    """
    jacobian = _equalities(model, qpos)[1]
    return np.asarray(-np.linalg.pinv(jacobian[:, passive], rcond=1e-6) @ jacobian[:, driven])


def looped(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """Return whether each degree of freedom moves what an <equality> holds, (nv,)."""
    return np.asarray(np.abs(_equalities(model, qpos)[1]).max(axis=0, initial=0.0) > 1e-9)


def _equalities(model: mujoco.MjModel, qpos: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the gaps of all equalities, (n,), and how they change with the degrees of freedom, (n, nv)."""
    dense = copy.copy(model)
    dense.opt.jacobian = mujoco.mjtJacobian.mjJAC_DENSE
    dense.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
    data = mujoco.MjData(dense)
    data.qpos[:] = qpos
    mujoco.mj_fwdPosition(dense, data)
    rows = data.efc_type == int(mujoco.mjtConstraint.mjCNSTR_EQUALITY)
    return data.efc_pos[rows].copy(), data.efc_J.reshape(-1, model.nv)[rows].copy()
