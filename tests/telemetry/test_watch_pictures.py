"""The pictures of the live views stand alone: no font, style or image from the network, nothing that runs."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

PICTURES = sorted((Path(__file__).parents[2] / "docs" / "pictures").glob("watch*.svg"))


def test_there_is_one_of_each_view():
    assert [picture.name for picture in PICTURES] == ["watch-gate.svg", "watch-servers.svg"]


@pytest.mark.parametrize("picture", PICTURES, ids=[picture.name for picture in PICTURES])
def test_a_picture_refers_to_nothing_outside(picture):
    text = picture.read_text(encoding="utf-8")
    root = ET.fromstring(text)

    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        *("svg", "style", "defs", "clipPath", "rect", "g", "text", "circle")
    }
    assert not re.search(r"@import|@font-face|href|<!--", text)
    assert all(target.startswith("#") for target in re.findall(r"url\((.*?)\)", text))
    assert set(re.findall(r'="(https?://[^"]+)"', text)) == {"http://www.w3.org/2000/svg"}
    assert "hit rate" in "".join(root.itertext()).replace("\xa0", " ")
