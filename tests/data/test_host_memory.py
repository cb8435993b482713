"""What containers and jobs leave of the machine's memory."""

from pathlib import Path

import psutil
import pytest

from ssd_jax.data.host_memory import free_bytes

KB = 1024


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def group(folder: str, limit: object, used: int, files: int) -> dict[str, str]:
    version_1 = "/memory" in folder
    names = ("limit_in_bytes", "usage_in_bytes") if version_1 else ("max", "current")
    total = "total_" * version_1
    stat = f"anon 7\n{total}inactive_file {files // 2}\n{total}active_file {files - files // 2}\n"
    return {
        f"sys/fs/cgroup{folder}/memory.{names[0]}": f"{limit}\n",
        f"sys/fs/cgroup{folder}/memory.{names[1]}": f"{used}\n",
        f"sys/fs/cgroup{folder}/memory.stat": stat,
    }


@pytest.mark.parametrize(
    ("groups", "files", "left"),
    [
        ("0::/\n", group("", 100 * KB, 30 * KB, 5 * KB), 75 * KB),
        ("0::/job/step\n", group("/job", 9 * KB, KB, 0) | group("/job/step", "max", KB, 0), 8 * KB),
        (
            "0::/job/step\n",
            group("/job", 9 * KB, KB, 0) | group("/job/step", 4 * KB, KB, 0),
            3 * KB,
        ),
        ("4:cpu,memory:/pod\n0::/\n", group("/memory/pod", 9 * KB, 2 * KB, KB), 8 * KB),
        ("4:memory:/the/hosts/path\n", group("/memory", 9 * KB, 2 * KB, KB), 8 * KB),
        ("0::/\n", group("", 9 * KB, 10 * KB, 0), 0),
    ],
)
def test_the_tightest_limit_counts(tmp_path, groups, files, left):
    assert free_bytes(machine(tmp_path, groups, files)) == left


def test_without_a_limit_it_is_the_machines(tmp_path):
    total = psutil.virtual_memory().total
    unlimited = machine(tmp_path / "a", "0::/\n4:memory:/\n", group("", "max", KB, 0))
    assert 1e6 < free_bytes(unlimited) <= total
    assert 1e6 < free_bytes(tmp_path / "without") <= total
    assert 0 < free_bytes() <= total
