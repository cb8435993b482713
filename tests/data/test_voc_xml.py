import numpy as np
import pytest

from ssd_jax.data.voc_xml import parse_annotation
from tests.data import make


def test_reads_size_and_objects_as_written():
    written = make.xml(
        (60, 80),
        [
            make.xml_object("dog", (1, 2, 30, 40), difficult=True, pose="Frontal"),
            make.xml_object("Cat", (5.5, 6, -3, 99), truncated=True),
        ],
    )
    annotation = parse_annotation(written.encode(), "a.xml")
    dog, cat = annotation.objects
    assert annotation.size == (60, 80)
    assert (dog.name, dog.pose, dog.difficult, dog.truncated) == ("dog", "frontal", True, False)
    assert (cat.name, cat.difficult, cat.truncated) == ("Cat", False, True)
    np.testing.assert_array_equal(annotation.boxes, [[1, 2, 30, 40], [5.5, 6, -3, 99]])


def test_no_objects_and_no_optional_fields():
    assert parse_annotation(b"<annotation/>", "a.xml").boxes.shape == (0, 4)
    plain = (
        b"<annotation><object><name> dog </name><bndbox><xmin>1</xmin><ymin>2</ymin>"
        b"<xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
    )
    (dog,) = parse_annotation(plain, "a.xml").objects
    assert dog.name == "dog" and dog.pose == "" and not dog.difficult and not dog.truncated


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width>0</width><height>0</height></size>", "<size>x</size>"]
)
def test_a_size_that_says_nothing_is_none(size: str):
    assert parse_annotation(f"<annotation>{size}</annotation>".encode(), "a").size is None


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
    "<annotation><filename>&c;</filename></annotation>"
)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("<annotation><object>", "broken XML"),
        ("", "broken XML"),
        ('<?xml version="1.0" encoding="no-such"?><annotation/>', "broken XML"),
        (BOMB, "entities"),
        ("<annotation><object/></annotation>", "has no name"),
        ("<annotation><object><name>dog</name></object></annotation>", "xmin.*'dog'.*''"),
        (make.xml(None, [make.xml_object("dog", (1, 2, float("nan"), 4))]), "xmax.*'nan'"),
        (make.xml(None, [make.xml_object("dog", (1, 2, 3, float("inf")))]), "ymax.*'inf'"),
    ],
)
def test_what_cannot_be_read_is_named(written: str, message: str):
    with pytest.raises(ValueError, match=rf"annotation folder/a\.xml.*{message}") as error:
        parse_annotation(written.encode(), "folder/a.xml")
    assert "\n" not in str(error.value)
