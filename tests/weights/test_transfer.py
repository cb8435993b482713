import numpy as np
import pytest

from ssd_jax.weights.transfer import transfer

KERNEL = (3, 3, 2, 8)


def network(class_names, boxes=4, batch_norm=False, channels=8, fill=0.0):
    """Variables with one layer of each kind."""
    outputs = boxes * (len(class_names) + 1)
    conv = {"kernel": np.full((3, 3, 3, channels), fill)}
    first = (
        {"conv": conv, "bn": {"scale": np.full(channels, fill)}} if batch_norm else {"conv": conv}
    )
    conf = {"kernel": np.full((3, 3, 2, outputs), fill), "bias": np.full(outputs, fill)}
    loc = {"bias": np.full(4 * boxes, fill)}
    heads = {"conf_0": conf, "loc_0": loc}
    return {"params": {"backbone": {"conv1_1": first}, "heads": heads}}


def numbered(class_names):
    """A network whose class head's bias of box b and class c is 100 b + c."""
    variables = network(class_names, fill=1.0)
    labels = np.arange(len(class_names) + 1.0)
    bias = (100 * np.arange(4.0)[:, None] + labels[None, :]).reshape(-1)
    head = variables["params"]["heads"]["conf_0"]
    head["bias"] = bias
    head["kernel"] = np.broadcast_to(bias, head["kernel"].shape)
    return variables


def test_classes_go_by_name_and_the_rest_stays_fresh():
    fresh = network(("dog", "tree", "cat"), fill=-1.0)
    merged, lines = transfer(
        fresh, numbered(("cat", "bird", "dog")), ("dog", "tree", "cat"), ("cat", "bird", "dog")
    )
    expected = np.array([[100 * box + 0, 100 * box + 3, -1, 100 * box + 1] for box in range(4)])
    head = merged["params"]["heads"]["conf_0"]
    np.testing.assert_array_equal(head["bias"], expected.reshape(-1))
    np.testing.assert_array_equal(head["kernel"][1, 2, 0], expected.reshape(-1))
    assert merged["params"]["heads"]["loc_0"]["bias"][0] == 1
    assert "classes taken by name: 2 of 3: dog, cat" in lines
    assert "classes that start fresh: 1: tree" in lines
    assert "classes left out: 1: bird; until it is trained anew, what was found as these is " in (
        "\n".join(lines)
    )


def test_what_torchvision_never_finds_is_not_told_as_left_out():
    names = ("cat", "N/A 12")
    _, lines = transfer(network(("cat",)), numbered(names), ("cat",), names)
    assert not any("left out" in line for line in lines)


def test_a_backbone_leaves_the_heads_fresh_and_says_so():
    part = {"params": {"backbone": network(("a",), fill=5.0)["params"]["backbone"]}}
    merged, lines = transfer(network(("a",)), part, ("a",))
    assert merged["params"]["backbone"]["conv1_1"]["conv"]["kernel"][0, 0, 0, 0] == 5
    assert merged["params"]["heads"]["conf_0"]["bias"][0] == 0
    assert lines == [
        "taken: 1 of the 4 parameters of this network",
        "layers that start fresh: 2: heads.conf_0, heads.loc_0",
    ]


def test_heads_of_other_boxes_are_left_out_and_named():
    merged, lines = transfer(
        network(("a",), boxes=6), network(("a",), boxes=4, fill=1.0), ("a",), ("a",)
    )
    assert merged["params"]["heads"]["conf_0"]["bias"].shape == (12,)
    (odd,) = [line for line in lines if line.startswith("left out")]
    assert "heads.conf_0 (other boxes a cell)" in odd
    assert "heads.loc_0 [16] for [24]" in odd


def test_networks_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"has no batch norm, this one has: .*batch_norm=False"):
        transfer(network(("a",), batch_norm=True), network(("a",)), ("a",), ("a",))
    with pytest.raises(
        ValueError, match=r"conv1_1 has 8 channels, this network's 16: .*width=0\.125"
    ):
        transfer(network(("a",), channels=16), network(("a",)), ("a",), ("a",))
