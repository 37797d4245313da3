"""One physics contract, three engines.

`state, readings = physics.step(params, state, controls)` advances ONE robot by one control period; callers `vmap` it.
See `jaxloco.physics.contract` for the shapes and `make_physics` for how an engine is chosen.
"""

from jaxloco.physics.contract import ENGINES, Controls, Physics, PhysicsSpec, PhysicsState
from jaxloco.physics.engines import choose_engine, make_physics

__all__ = ["ENGINES", "Controls", "Physics", "PhysicsSpec", "PhysicsState", "choose_engine", "make_physics"]
