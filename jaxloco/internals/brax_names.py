"""The environments that Brax knows.

Why internals: `brax.envs` registers environments and makes them by name, but does not list them; the list names the
closest one to a name that is wrong, and shows which take a backend. Otherwise both are found by trying.
"""

from collections.abc import Callable
from typing import Any

from jaxloco.internals import intact


def environments() -> dict[str, Callable[..., Any]]:
    """Return what makes each environment, by name; nothing where the list is not found."""
    found: dict[str, Callable[..., Any]] = {}

    def read() -> None:
        from brax import envs

        found.update(envs._envs)
        found.pop("fast", None)  # Brax's own tests use that; it has no physics

    intact("Brax's list of environments", "names are tried", read)
    return found
