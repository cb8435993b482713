"""Shows what a detector finds, in the browser: drop a picture or use the webcam.

python demo.py --ckpt runs/shapes
"""

from collections.abc import Sequence

from absl import flags

from ssd_jax import cli, compilation
from ssd_jax.demo_page import serve
from ssd_jax.detector import Detector

CKPT = flags.DEFINE_string("ckpt", None, "The run's folder, or hf://OWNER/NAME.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint to use [the newest].")
BEST = flags.DEFINE_bool("best", False, "Use the checkpoint of the highest mAP.")
CACHE = compilation.define_cache()
HOST = flags.DEFINE_string("host", "127.0.0.1", "0.0.0.0 lets other machines see the page.")
PORT = flags.DEFINE_integer("port", 7860, "Of the page.", 1, 65535)


def main(arguments: Sequence[str]) -> None:
    """Serves the page until Ctrl-C."""
    if arguments:
        raise ValueError(f"unexpected {' '.join(arguments)}: options start with --")
    if CKPT.value is None:
        raise ValueError("--ckpt is missing: give a run's folder, such as --ckpt runs/shapes")
    compilation.enable_cache(CACHE.value)
    detector = Detector.from_checkpoint(CKPT.value, step=STEP.value, best=BEST.value)
    detector.warm_up(1)
    serve(detector, host=HOST.value, port=PORT.value)


if __name__ == "__main__":
    cli.run(main)
