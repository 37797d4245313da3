"""Packages that read formats of others: not everyone needs them, so they come with the extra `logs`."""

import importlib
from pathlib import Path
from typing import Any

from jaxloco.errors import LogError
from jaxloco.installation import pip_install


def needed(path: str | Path, module: str) -> Any:
    """Return a module that a file's format needs.

    Raises:
        LogError: It is not installed; says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.split(".")[0]
        raise LogError(f"{path}: its format needs {package}: {pip_install('logs')}") from None
