"""TensorBoard's files."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

_FLUSH_SECONDS = 30


class Board:
    """Writes curves and pictures for TensorBoard to a folder, which is made if there is none.

    A write that fails is told at once. tensorboardX's own `SummaryWriter` writes in a thread: where
    a full disk ended that, the program would wait for it for ever.

    Args:
      folder: takes a new file.
      start: what earlier files there have of later steps is not shown.
    """

    def __init__(self, folder: Path, start: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = EventsWriter(str(folder / "events"))
        self._flushed = time.monotonic()
        self._add(start + 1, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, step: int, name: str, value: float) -> None:
        """Adds a point of a curve."""
        self._add(step, summary=summary.scalar(name, value))

    def picture(self, step: int, name: str, image: UInt8[np.ndarray, "H W 3"]) -> None:
        """Adds an RGB picture."""
        self._add(step, summary=summary.image(name, image, dataformats="HWC"))

    def close(self) -> None:
        """Writes what is left."""
        self._file.close()

    def _add(self, step: int, **content: Any) -> None:
        self._file.write_event(Event(step=step, wall_time=time.time(), **content))
        if time.monotonic() - self._flushed > _FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()
