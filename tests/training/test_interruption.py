import os
import signal

import pytest

from ssd_jax.training.interruption import Interrupted, Interruption


@pytest.mark.parametrize(
    ("number", "cause"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")]
)
def test_a_signal_is_asked_about_and_a_second_one_ends_the_program(number, cause):
    ended = []
    before = signal.signal(number, lambda *_: ended.append(number))
    try:
        with Interruption() as interruption:
            assert not interruption.asked()
            os.kill(os.getpid(), number)
            assert interruption.asked()
            assert interruption.cause == cause
            with pytest.raises(Interrupted):
                interruption.raise_if_asked()
            assert not ended
            os.kill(os.getpid(), number)
            assert ended == [number]
        os.kill(os.getpid(), number)
        assert len(ended) == 2
    finally:
        signal.signal(number, before)
