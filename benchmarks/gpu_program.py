"""What a GPU would do in a training step, read from the program that XLA compiles for it.

    pip install 'jax[cuda12]==0.10.2'
    python benchmarks/gpu_program.py [--quick]

No GPU is needed: XLA compiles for an H200 that is described to it. So it says nothing of time, nor
of what cuDNN chooses or the workspace that it takes, but what there is to do: how many kernels are
started, what they read and write, and the memory of a step, of which follows the largest batch in
16, 24 and 80 GB. That is all of a card's memory, of which JAX takes three quarters unless
XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise; and on a real GPU cuDNN's workspace is in the
analysis too, so that the batches are smaller there (memory.py).
"""

import os

# Before JAX starts: the plugin for GPUs, which is not to look for one.
os.environ["JAX_PLATFORMS"] = "cpu,cuda"
os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"

import importlib.util

import jax
import jax.numpy as jnp
from common import Report, main
from hlo import Kernel, kernels
from jax.experimental import topologies
from memory import GB, add_largest_batches, compile_step, step_bytes

from ssd_jax.detection import ROUNDS, nms

# An H200: NVIDIA's data sheet, in the words of XLA's descriptions of devices.
TARGET = """
gpu_device_info {
  name: "NVIDIA H200 141GB HBM3e"
  cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  device_memory_size: 151397597184
  memory_bandwidth: 4800000000000
  l2_cache_size: 52428800
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  driver_version: "13.0.0"
  runtime_version: "12.8.0"
  compile_time_toolkit_version: "12.8.0"
  dnn_version: "9.10.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200 141GB HBM3e"
"""
BATCH_SIZE = 32
MATCHING_ROUNDS = 5  # of the greedy matching, whose loop ends when no image has objects left
CROWDED, IOU = (64, 20, 400), 0.45  # images, classes and candidates for NMS
NMS_LOOKS = 3  # whether it is done


def measure(report: Report, quick: bool) -> None:
    """The step of both sizes, with and without rematerialisation, and NMS."""
    if importlib.util.find_spec("jax_cuda12_plugin") is None:
        report.note("jax[cuda12] is not installed: left out")
        return
    sharding = jax.sharding.SingleDeviceSharding(described_device())
    for size in (300,) if quick else (300, 512):
        for remat in (False, True):
            case = f"SSD{size}, bfloat16, batch {BATCH_SIZE}" + (", train.remat" if remat else "")
            few, many = (
                compile_step(size, "bfloat16", count, remat, sharding)
                for count in (BATCH_SIZE // 2, BATCH_SIZE)
            )
            report.add(f"{case}: memory", step_bytes(many) / GB, "GB")
            started = kernels(many.as_text(), trips=MATCHING_ROUNDS)
            add_kernels(report, case, started)
            network = [kernel for kernel in started if "SSD" in kernel.source]
            add_kernels(report, f"{case}, network", network)
            convolutions = [kernel for kernel in network if "cudnn" in kernel.kind]
            add_kernels(report, f"{case}, convolutions", convolutions)
            add_largest_batches(
                report, case, {BATCH_SIZE // 2: step_bytes(few), BATCH_SIZE: step_bytes(many)}
            )
    boxes = jax.ShapeDtypeStruct((*CROWDED, 4), jnp.float32, sharding=sharding)
    valid = jax.ShapeDtypeStruct(CROWDED, bool, sharding=sharding)
    suppress = jax.vmap(jax.vmap(lambda boxes, valid: nms(boxes, valid, IOU)))
    text = jax.jit(suppress).lower(boxes, valid).compile().as_text()
    case = f"NMS, {' x '.join(map(str, CROWDED))}, {NMS_LOOKS * ROUNDS} rounds"
    add_kernels(report, case, kernels(text, trips=NMS_LOOKS))


def add_kernels(report: Report, case: str, started: list[Kernel]) -> None:
    """Adds how many they are and what they move."""
    report.add(f"{case}: kernels started", sum(kernel.times for kernel in started), "")
    total = sum(kernel.times * kernel.bytes for kernel in started)
    report.add(f"{case}: read and written", total / GB, "GB")


def described_device() -> jax.Device:
    """The GPU of the description."""
    # JAX looks for a GPU to tell 'gpu' from 'cuda', https://github.com/jax-ml/jax/issues/23971.
    from jax._src import xla_bridge

    xla_bridge.canonicalize_platform = lambda platform: platform
    return topologies.get_topology_desc(
        topology_name="h200", platform="cuda", topology="1x1x1", target_config=TARGET
    ).devices[0]


if __name__ == "__main__":
    main(__doc__, measure)
