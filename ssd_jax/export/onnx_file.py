"""ONNX: the whole detector as one graph of standard operators, with the metadata inside.

Written by hand rather than converted from JAX's program: a converted graph keeps JAX's layout, and
so transposes around every convolution, and an NMS made of loops and tables of all IoUs. This one
is channels first and has ONNX's own NonMaxSuppression; see docs/export.md for what that gains.
"""

from pathlib import Path
from typing import Any

import onnx

from ssd_jax.export.metadata import KEY, Metadata
from ssd_jax.export.onnx_detection import add_detection
from ssd_jax.export.onnx_graph import FLOAT, INT32, UINT8, Graph
from ssd_jax.export.onnx_network import add_network, plane_order
from ssd_jax.export.onnx_picture import add_resize
from ssd_jax.model import SSD
from ssd_jax.priors import prior_boxes

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13 (2022), so that older runtimes read them too


def write(path: Path, model: SSD, variables: Any, metadata: Metadata) -> None:
    """Writes the file.

    Args:
      path: of the file.
      model: the network.
      variables: what `model.apply` takes, as NumPy arrays.
      metadata: of the detector.

    Raises:
      ValueError: the network is not `SSD` on VGG16.
    """
    graph = Graph()
    x = add_resize(
        graph,
        "images",
        "sizes",
        image_size=metadata.image_size,
        mean=metadata.mean,
        std=metadata.std,
    )
    loc, conf = add_network(graph, model, variables, x)
    add_detection(
        graph,
        loc,
        conf,
        plane_order(model.priors, prior_boxes(model.priors)),
        variances=model.priors.variances,
        batch_of="images",
        **metadata.detect,
    )
    batch, count = metadata.batch or "batch", metadata.detect["max_detections"]
    written = onnx.helper.make_model(
        graph.finish(
            "ssd",
            {
                "images": (UINT8, [batch, "height", "width", 3]),
                "sizes": (INT32, [batch, 2]),
            },
            {
                "boxes": (FLOAT, [batch, count, 4]),
                "scores": (FLOAT, [batch, count]),
                "labels": (INT32, [batch, count]),
            },
        ),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="ssd_jax",
        producer_version=metadata.version,
    )
    onnx.helper.set_model_props(written, {KEY: metadata.to_json()})
    onnx.checker.check_model(written, full_check=True)
    onnx.save(written, path)
