"""Reads the text of compiled programs, as `compiled.as_text()` prints it."""

import dataclasses
import math
import re

_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)(?:e\d\w*)?\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.-]+) \(.*\) -> .* \{$")
_INSTRUCTION = re.compile(
    r"^\s+(?:ROOT )?%(?P<name>[\w.-]+) = (?P<shapes>.*?) (?P<kind>[\w-]+)\((?P<rest>.*)$"
)
_COLLECTIVES = {
    *("all-reduce", "all-gather", "all-to-all", "reduce-scatter", "collective-permute"),
    *("collective-broadcast", "ragged-all-to-all"),
}
_NO_WORK = {"parameter", "get-tuple-element", "tuple", "constant", "bitcast", "after-all"}
_UNREAD = {"call", "conditional", "async-start"}  # they start kernels of other computations


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
    """Every instruction between devices of an optimised HLO module."""
    found = []
    for match in filter(None, map(_INSTRUCTION.match, text.splitlines())):
        kind = match["kind"].removesuffix("-start")
        if kind in _COLLECTIVES:
            sizes = array_bytes(match["shapes"])
            found.append(Collective(kind, len(sizes), sum(sizes)))
    return found


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One instruction that a GPU carries out.

    Attributes:
      kind: such as 'fusion', or what a custom call calls.
      source: the operation of JAX that it comes from, '' where the compiler does not say.
      times: how often a run of the program starts it.
      bytes: of its operands and results, once.
    """

    kind: str
    source: str
    times: int
    bytes: int


def array_bytes(text: str) -> list[int]:
    """The bytes of each array that is named in a text, as `f32[8,3]` is."""
    return [
        math.prod(map(int, filter(None, shape.split(",")))) * _bytes_of(dtype)
        for dtype, shape in _ARRAY.findall(text)
    ]


def _bytes_of(dtype: str) -> int:
    return 1 if dtype == "pred" else max(1, int(re.sub(r"\D", "", dtype)) // 8)


def kernels(text: str, *, trips: int) -> list[Kernel]:
    """What a scheduled HLO module for a GPU starts.

    Args:
      text: the module's.
      trips: what a loop counts for whose end depends on data.

    Raises:
      NotImplementedError: the program branches, or calls.
    """
    computations: dict[str, list[str]] = {}
    entry = name = ""
    for line in text.splitlines():
        if head := _COMPUTATION.match(line):
            name = head["name"]
            computations[name] = []
            entry = name if head["entry"] else entry
        elif name and line.startswith("  "):
            computations[name].append(line)
    return _kernels(computations, entry, 1, trips)


def _kernels(computations: dict[str, list[str]], name: str, times: int, trips: int) -> list[Kernel]:
    found = []
    sizes: dict[str, int] = {}
    for match in filter(None, map(_INSTRUCTION.match, computations[name])):
        line, kind = match[0], match["kind"]
        sizes[match["name"]] = sum(array_bytes(match["shapes"]))
        if kind in _NO_WORK or kind.endswith("-done"):
            continue
        if kind in _UNREAD:
            raise NotImplementedError(f"kernels of this are not counted: {line.strip()[:200]}")
        if kind == "while":
            known = _after(r'known_trip_count":\{"n":"(\d+)', line)
            rounds = times * (int(known) if known else trips)
            for part in ("body", "condition"):
                # A loop of known length has nothing to look at.
                if part == "body" or not known:
                    inner = _after(rf"{part}=%([\w.-]+)", line)
                    found += _kernels(computations, inner, rounds, trips)
            continue
        operands = re.findall(r"%([\w.-]+)", match["rest"].split("), ")[0])
        total = sizes[match["name"]] + sum(sizes.get(operand, 0) for operand in operands)
        called = _after(r'custom_call_target="([^"]*)"', line) or kind
        found.append(Kernel(called, _after(r'op_name="([^"]*)"', line), times, total))
    return found


def _after(pattern: str, line: str) -> str:
    match = re.search(pattern, line)
    return match[1] if match else ""
