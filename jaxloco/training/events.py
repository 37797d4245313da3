"""TensorBoard events, written by the caller, without threads or queues."""

import json
import os
import re
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxloco.options import flat


class EventsWriter:
    """One event file in a run's folder, in the format of TensorFlow's records.

    Args:
        folder: The run's folder.
        resume_step: Environment steps from which the run goes on: TensorBoard then hides later ones that were written
            before.
        config: The configuration, plain values in nested dictionaries: shown as text and as hyperparameters.
        goes_on: Whether to go on with the folder's last file, of a training that has ended.

    Raises:
        ImportError: tensorboardX, which knows the messages, is not installed.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        resume_step: int | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        goes_on: bool = False,
    ) -> None:
        from tensorboardX import record_writer, summary
        from tensorboardX.proto import event_pb2, summary_pb2

        self._summaries, self._messages, self._summary, self._checksum = (
            summary,
            event_pb2,
            summary_pb2.Summary,
            record_writer.masked_crc32c,
        )
        # TensorBoard reads files in the order of their names; the steps tell those of one second apart.
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{resume_step or 0:012d}"
        before = sorted(path.name for path in folder.glob("events.out.tfevents.*")) if goes_on else []
        name = before[-1] if before else name
        self._file = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        begin = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        try:
            if not before:
                self._put(file_version="brain.Event:2")
            if resume_step is not None:
                self._put(step=resume_step + 1, session_log=begin)
            elif config:
                self._describe(config)
        except OSError:
            self.close()
            raise

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Add scalars at a number of environment steps.

        Raises:
            OSError: They cannot be written.
        """
        tags = {re.sub(r"[^-/\w.]", "_", name): value for name, value in values.items()}  # what TensorBoard takes
        scalars = [self._summary.Value(tag=tag, simple_value=value) for tag, value in tags.items()]
        self._put(step=step, summary=self._summary(value=scalars))

    def _describe(self, config: Mapping[str, Any]) -> None:
        """Write a configuration, as text and as hyperparameters."""
        text = "\n".join(f"    {line}" for line in json.dumps(config, indent=2).splitlines())  # verbatim in Markdown
        self._put(step=0, summary=self._summaries.text("config", text))
        values = {name: value if isinstance(value, int | float) else str(value) for name, value in flat(config).items()}
        for part in self._summaries.hparams(values, {"rollout/ep_rew_mean": 0.0}):
            self._put(step=0, summary=part)

    def picture(self, step: int, tag: str, data: bytes) -> None:
        """Add a PNG, or a GIF, which moves.

        Raises:
            OSError: It cannot be written.
        """
        width, height = struct.unpack("<HH", data[6:10]) if data[:3] == b"GIF" else struct.unpack(">II", data[16:24])
        image = self._summary.Image(height=height, width=width, colorspace=3, encoded_image_string=data)
        self._put(step=step, summary=self._summary(value=[self._summary.Value(tag=tag, image=image)]))

    def _put(self, **fields: Any) -> None:
        """Hand an event to the system, whole or not at all: half a one would hide those behind it."""
        data = self._messages.Event(wall_time=time.time(), **fields).SerializeToString()
        length = struct.pack("<Q", len(data))
        first, second = (struct.pack("<I", self._checksum(part)) for part in (length, data))
        record, before = length + first + data + second, os.fstat(self._file).st_size
        try:
            while record:
                record = record[os.write(self._file, record) :]
        except OSError:
            os.ftruncate(self._file, before)
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
