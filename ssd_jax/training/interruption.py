"""A run that is asked to stop: SIGTERM from a scheduler that wants the machine, or Ctrl-C."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from jax.experimental import multihost_utils

from ssd_jax import processes

STOPPED = 143
"""The exit code of a run that SIGTERM ended before its last step, as shells have it."""


class Interrupted(Exception):  # noqa: N818
    """Raised out of an evaluation by a run that is asked to stop."""


class Interruption:
    """While it is entered, SIGTERM and Ctrl-C no longer end the program: they are asked about.

    A second one does end it. Of several processes all stop at the same question, whichever of them
    got the signal, so all must ask the same number of times.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._questions = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        # Signals are the main thread's; a run in another is its caller's to stop.
        if threading.current_thread() is threading.main_thread():
            # JAX itself takes SIGTERM where it tells the other processes.
            ours = [signal.SIGINT] if processes.are_several() else [signal.SIGINT, signal.SIGTERM]
            self._before = {number: signal.signal(number, self._note) for number in ours}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    @property
    def cause(self) -> str:
        """What asks to stop, for messages."""
        if self.signal is None:
            return "SIGTERM of a process"
        return "Ctrl-C" if self.signal == signal.SIGINT else self.signal.name

    def asked(self) -> bool:
        """Whether to stop now: asked after every step, and every batch of an evaluation."""
        self._questions += 1
        if processes.are_several():
            return bool(multihost_utils.reached_preemption_sync_point(self._questions))
        return self.signal is not None

    def raise_if_asked(self) -> None:
        """As `asked`, from where only an exception leads out.

        Raises:
          Interrupted: it is asked to stop.
        """
        if self.asked():
            raise Interrupted

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number)
        self._restore()
        if processes.are_several():
            os.kill(os.getpid(), signal.SIGTERM)  # for JAX to tell the others

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
