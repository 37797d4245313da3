"""Exchanges between devices that run the same program, each for its share of the robots.

On a CPU, XLA may start exchanges that do not depend on each other in any order, a different one on each device; in a
program from the compilation cache nothing then keeps it from adding up what does not belong together (seen with jaxlib
0.10.2: NaN, crashes). So every exchange here moves one vector, and a program must make each one depend on the result of
the one before it: in order by data, not by luck.
"""

from typing import Any

import jax
from jax.flatten_util import ravel_pytree


def mean(tree: Any, axis_name: str | None) -> Any:
    """Mean over the devices of a pytree of float32 arrays; itself without an axis."""
    if axis_name is None:
        return tree
    vector, restore = ravel_pytree(tree)
    return restore(jax.lax.pmean(vector, axis_name))


def gather(tree: Any, axis_name: str | None) -> Any:
    """Every device's pytree of float32 arrays, on each of them: with a leading axis over devices, of 1 without any."""
    if axis_name is None:
        return jax.tree.map(lambda x: x[None], tree)
    vector, restore = ravel_pytree(tree)
    return jax.vmap(restore)(jax.lax.all_gather(vector, axis_name))
