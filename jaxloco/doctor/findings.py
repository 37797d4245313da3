"""What the doctor finds."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to change, or to know.

    Attributes:
        severity: "error" if the robot cannot be used as it is (on this engine), "warning" if it can, "note" where
            there is nothing to do.
        engine: "all", or the one engine that it concerns: "native", "mjx" or "warp".
        file: The file to change.
        line: The line to change, from 1; None where there is none yet.
        problem: What is wrong.
        fix: What to write.
    """

    severity: Severity
    engine: str
    file: Path
    line: int | None
    problem: str
    fix: str

    def __str__(self) -> str:
        """Return it as the doctor prints it."""
        place = f"{self.file}, line {self.line}" if self.line else str(self.file)
        engine = "" if self.engine == "all" else f" [{self.engine}]"
        return f"{self.severity}{engine}: {place}: {self.problem}\n    → {self.fix}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {**asdict(self), "file": str(self.file)}
