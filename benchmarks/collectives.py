"""What a compiled program sends between devices, read from its text."""

import dataclasses
import math
import re

_INSTRUCTION = re.compile(
    r" = (?P<shapes>.*?) (?P<kind>all-reduce|all-gather|all-to-all|reduce-scatter|"
    r"collective-permute|collective-broadcast|ragged-all-to-all)(?:-start)?\("
)
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)(?:e\d\w*)?\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One instruction between devices.

    Attributes:
      kind: such as 'all-reduce'.
      arrays: how many it takes at once.
      bytes: of all of them.
    """

    kind: str
    arrays: int
    bytes: int


def collectives(text: str) -> list[Collective]:
    """Every instruction between devices of an optimised HLO module, as `as_text()` prints it."""
    found = []
    for match in _INSTRUCTION.finditer(text):
        arrays = _ARRAY.findall(match["shapes"])
        sizes = [
            math.prod(map(int, filter(None, shape.split(",")))) * _bytes_of(dtype)
            for dtype, shape in arrays
        ]
        found.append(Collective(match["kind"], len(arrays), sum(sizes)))
    return found


def _bytes_of(dtype: str) -> int:
    return 1 if dtype == "pred" else max(1, int(re.sub(r"\D", "", dtype)) // 8)
