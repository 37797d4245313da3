"""What leans on internals of other packages; `docs/internals.md` lists it.

Each module says why their public interface is not enough, checks at first use that the internals still look as it needs
them, and has another way, slower and with the same results, for where they do not.
"""

import logging
from collections.abc import Callable
from functools import cache


def intact(what: str, otherwise: str, check: Callable[[], object]) -> bool:
    """Return whether a check of internals passes; the log says what is done where it does not.

    Args:
        what: What is checked.
        otherwise: What is done if the check fails.
        check: Raises an exception if the internals are not as they should be.
    """
    try:
        check()
    except Exception as error:  # whatever a change in another package makes it raise
        _say(f"{what}: not as expected ({type(error).__name__}: {error}); {otherwise}")
        return False
    return True


@cache
def _say(text: str) -> None:
    """Say something once."""
    logging.getLogger(__name__).warning(text)
