"""Writing an ONNX graph node by node; a value is known by its name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

FLOAT, INT32, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.INT64
UINT8 = onnx.TensorProto.UINT8

Shape = Sequence[int | str | None]


class Graph:
    """The nodes and constants of a graph in the making.

    Args:
      prefix: of all names, to tell those of a subgraph from its parent's.
    """

    def __init__(self, prefix: str = ""):
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | np.generic | list[int], name: str = "constant") -> str:
        """Adds a constant (a list is of int64); returns its name, made unique."""
        array = np.array(value, np.int64) if isinstance(value, list) else np.asarray(value)
        name = f"{self._prefix}{name}_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds a node with one output; returns the output's name.

        Args:
          operator: as in ONNX's list of operators.
          inputs: names of values.
          name: of the output; made from the operator if empty.
          attributes: the operator's.
        """
        return self.add_many(operator, *inputs, names=[name], **attributes)[0]

    def add_many(
        self, operator: str, *inputs: str, names: list[str], **attributes: Any
    ) -> list[str]:
        """As `add`, with an output for each of `names`."""
        outputs = [
            name or f"{self._prefix}{operator}_{len(self._nodes)}_{place}"
            for place, name in enumerate(names)
        ]
        self._nodes.append(
            helper.make_node(operator, inputs, outputs, name=outputs[0], **attributes)
        )
        return outputs

    def finish(
        self,
        name: str,
        inputs: dict[str, tuple[int, Shape]],
        outputs: dict[str, tuple[int, Shape]],
    ) -> onnx.GraphProto:
        """The graph; inputs and outputs are name -> (element type, shape)."""
        return helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(value, *of) for value, of in inputs.items()],
            [helper.make_tensor_value_info(value, *of) for value, of in outputs.items()],
            self._constants,
        )
