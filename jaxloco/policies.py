"""The policies that come with jaxloco, by name. NumPy and the standard library suffice: a robot runs them too."""

import os
from pathlib import Path

FOLDER = "JAXLOCO_POLICIES"
"""Environment variable: a folder of policies of one's own, found by name in place of jaxloco's of the same name."""


def policies_dir() -> Path:
    """Return the folder of the policies that come with jaxloco, of the installed package or the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_policies"
    return installed if installed.is_dir() else package.parent / "policies"


def known_policies() -> dict[str, Path]:
    """Return the folder of each policy by name, sorted."""
    folders = [policies_dir(), *(Path(path) for path in [os.environ.get(FOLDER)] if path)]
    found = {
        file.parents[1].name: file.parents[1] for folder in folders for file in folder.glob("*/policy/policy.json")
    }
    return dict(sorted(found.items()))
