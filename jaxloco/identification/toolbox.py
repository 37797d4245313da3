"""`mujoco.sysid`, which comes with `pip install 'jaxloco[identify]'`."""

import importlib
from typing import Any

from jaxloco.errors import JaxlocoError


def sysid() -> Any:
    """Return the module.

    Raises:
        JaxlocoError: Packages that it needs are missing: without them it can be imported, and is empty.
    """
    module = importlib.import_module("mujoco.sysid")  # by name: its types would have mypy read all of mujoco
    if not hasattr(module, "optimize"):
        raise JaxlocoError("mujoco.sysid lacks packages that it needs: pip install 'jaxloco[identify]'")
    return module
