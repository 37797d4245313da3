"""Quaternions w x y z in NumPy; one, (4,), or a series, (N, 4)."""

from collections.abc import Mapping

import numpy as np

from jaxloco.robot import Robot


def in_base_axes(robot: Robot, signals: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what an IMU measures, (N, 4) and (N, 3) by signal, as one with the axes of the base would measure it."""
    facts = robot.facts()["imu"]
    mounted = np.array(facts["orientation"] if facts else [1.0, 0.0, 0.0, 0.0])  # from the IMU's axes to the base's
    return {
        name: product(values, conjugate(mounted)) if name == "orientation" else turned(mounted, values)
        for name, values in signals.items()
    }


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the turn `b` followed by the turn `a`, (4,) or (N, 4)."""
    w, x, y, z = np.moveaxis(np.asarray(a), -1, 0)
    v, i, j, k = np.moveaxis(np.asarray(b), -1, 0)
    return np.stack(
        [
            w * v - x * i - y * j - z * k,
            w * i + x * v + y * k - z * j,
            w * j - x * k + y * v + z * i,
            w * k + x * j - y * i + z * v,
        ],
        axis=-1,
    )


def conjugate(a: np.ndarray) -> np.ndarray:
    """Return the turn back of a unit quaternion, (4,) or (N, 4)."""
    return np.asarray(a) * [1.0, -1.0, -1.0, -1.0]


def turned(a: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return vectors, (N, 3), turned by `a`."""
    padded = np.concatenate([np.zeros((*vectors.shape[:-1], 1)), vectors], axis=-1)
    return product(product(a, padded), conjugate(a))[..., 1:]
