"""How recordings are read: options that several commands have; imports nothing heavy, because the command line does."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class RecordingOptions:
    """How recordings of ROS are read.

    Attributes:
        topics: Of bags: the only topics to read.
        motors: Of bags whose motors have no names: the joints in the order of the motors.
        types: Of bags without message definitions: folder of .msg files.
    """

    topics: tuple[str, ...] = field(default=(), kw_only=True)
    motors: tuple[str, ...] = field(default=(), kw_only=True)
    types: str | None = field(default=None, kw_only=True)

    @property
    def reading(self) -> dict[str, Any]:
        """Return them as `jaxloco.logs.read` takes them."""
        return {name: getattr(self, name) for name in ("topics", "motors", "types")}
