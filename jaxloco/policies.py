"""The policies that are found by name. NumPy and the standard library suffice: a robot runs them too."""

import os
from pathlib import Path

from jaxloco import policy_index
from jaxloco.errors import ConfigError

ZOO = "JAXLOCO_POLICIES"
"""Environment variable: a folder or an address of policies, found by name in place of jaxloco's of the same name."""


def policies_dir() -> Path:
    """Return the folder of the policies that come with jaxloco, of the installed package or the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_policies"
    return installed if installed.is_dir() else package.parent / "policies"


def known_policies() -> dict[str, Path]:
    """Return the folder of each policy by name, sorted; of one at an address, where its copy will be.

    Raises:
        ConfigError: There is no such folder.
        JaxlocoError: The address cannot be read.
    """
    zoo = os.environ.get(ZOO, "")
    folders = [policies_dir(), *([Path(zoo)] if zoo and not policy_index.is_address(zoo) else [])]
    if not folders[-1].is_dir() and zoo:
        raise ConfigError(f"{ZOO}={zoo}: there is no such folder; an address begins with https://, http:// or file://")
    found = {
        file.parents[1].name: file.parents[1] for folder in folders for file in folder.glob("*/policy/policy.json")
    }
    found |= {name: policy_index.place(name, files) for name, files in _at_address().items()}
    return dict(sorted(found.items()))


def find_policy(name: str) -> Path | None:
    """Return the folder of a policy, fetched and checked if it is at an address; None if there is none of that name.

    Raises:
        JaxlocoError: The address cannot be read, or what is there is not what its index says.
    """
    there = _at_address().get(name)
    return known_policies().get(name) if there is None else policy_index.fetched(os.environ[ZOO], name, there)


def _at_address() -> dict[str, policy_index.Files]:
    zoo = os.environ.get(ZOO, "")
    return policy_index.read_index(zoo) if policy_index.is_address(zoo) else {}
