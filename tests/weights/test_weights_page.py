"""What docs/weights.md says of VGG16 in a training loop of one's own."""

import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from ssd_jax.model import VGG_STAGES
from ssd_jax.weights import download

PAGE = Path(__file__).parents[2] / "docs" / "weights.md"


@pytest.mark.usefixtures("compiled_in_haste")
def test_its_weights_and_mean_are_had(monkeypatch, tmp_path, capsys):
    path = tmp_path / "vgg16.h5"
    inputs = 3
    with h5py.File(path, "w") as file:  # Keras's file without the classifier, of ones
        layers = []
        for stage, channels in enumerate(VGG_STAGES, start=1):
            for number, outputs in enumerate(channels, start=1):
                layers.append(f"block{stage}_conv{number}")
                group = file.create_group(layers[-1])
                group.attrs["weight_names"] = ["kernel", "bias"]
                for name, shape in (("kernel", (3, 3, inputs, outputs)), ("bias", (outputs,))):
                    group.create_dataset(name, shape, np.float32, fillvalue=1)
                inputs = outputs
        file.attrs["layer_names"] = layers
    monkeypatch.setattr(download, "fetch_vgg16", lambda: path)
    (snippet,) = (
        text
        for text in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
        if "fetch_vgg16" in text
    )
    names: dict = {}
    exec(snippet, names)

    params = names["variables"]["params"]
    assert np.all(params["backbone"]["conv5_3"]["conv"]["kernel"] == 1)
    assert params["heads"]["conf_0"]["kernel"].shape == (3, 3, 512, 4 * 4)
    assert (names["mean"], names["std"]) == ((123.68, 116.779, 103.939), (1, 1, 1))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "taken: 26 of the 71 parameters of this network"
    assert lines[1].startswith("layers that start fresh:") and "fc6" in lines[1]
