"""The benchmarks are programs of one folder, which import each other from there."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def report(tmp_path):
    from common import Report

    return Report("some", tmp_path, quick=True)
