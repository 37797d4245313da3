"""Figures of a model file that robot.toml does not take."""

from collections import defaultdict
from typing import Any

from jaxloco.model_import.draft import Notes, few
from jaxloco.robot import SCHEMA
from jaxloco.toml_schema import MAX_NUMBER, Table, fits


class Refused:
    """Figures of joints that robot.toml does not take: key and value → joints."""

    def __init__(self) -> None:
        self._joints: dict[tuple[str, str, bool], list[str]] = defaultdict(list)

    def takes(self, joint: str, key: str, value: float) -> bool:
        """Return whether a figure is one that robot.toml does not take, and keep it then."""
        table = SCHEMA["joints"]
        wrong = isinstance(table, Table) and not fits(float(value), table.keys[key])
        if wrong:
            self._joints[key, f"{value:g}", value > MAX_NUMBER and "limit" in key].append(joint)
        return wrong

    def note(self, notes: Notes, done: str) -> None:
        """Note them: a limit above all others is how exporters write that there is none."""
        for (key, value, endless), joints in self._joints.items():
            problem = f"no {key} is {value}, as the file has it of joints {few(joints)}"
            notes.add(problem, done, "note" if endless else "warning")


def sound(motor: dict[str, Any], joint: str, refused: Refused) -> dict[str, Any]:
    """Return the figures of a motor; None for what robot.toml does not take."""
    return {k: None if v is None or refused.takes(joint, k, v) else v for k, v in motor.items()}
