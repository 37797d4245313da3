"""`mujoco.sysid`, with the packages of the extra `identify`."""

import importlib
from typing import Any

from jaxloco.errors import JaxlocoError
from jaxloco.installation import pip_install


def sysid() -> Any:
    """Return the module.

    Raises:
        JaxlocoError: Packages that it needs are missing: without them it can be imported, and is empty.
    """
    module = importlib.import_module("mujoco.sysid")  # by name: its types would have mypy read all of mujoco
    if not hasattr(module, "optimize"):
        raise JaxlocoError(f"mujoco.sysid lacks packages that it needs: {pip_install('identify')}")
    return module
