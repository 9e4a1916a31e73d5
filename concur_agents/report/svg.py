"""From a matplotlib figure to SVG that is part of a page: its colours and its type are the page's."""

from __future__ import annotations

import io
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import matplotlib as mpl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure

UNITS_AN_INCH = 72.0
"""matplotlib's SVG has a unit a point: a figure of so many units is that many CSS pixels wide if it is not scaled."""

INK = "#010101"
FAINT = "#020202"
GRID = "#030303"
MAIN = "#040404"
OTHER = "#050505"
REST = "#060606"
ALARM = "#070707"
_VARIABLES = {
    INK: "--ink",
    FAINT: "--faint",
    GRID: "--grid",
    MAIN: "--main",
    OTHER: "--other",
    REST: "--rest",
    ALARM: "--alarm",
}
"""What is drawn in these colours is shown in those of the page, in the light and in the dark."""

_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.labelcolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlepad": 5.0,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],  # matplotlib brings it, so that the same figure comes out everywhere
    "font.size": 9.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 1.4,
    "legend.borderaxespad": 0.0,
    "legend.borderpad": 0.0,
    "legend.columnspacing": 0.9,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "legend.handletextpad": 0.35,
    "legend.labelcolor": INK,
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text: read aloud, searched, in the page's type
    "svg.hashsalt": "concur-agents",  # the same figure has the same ids
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": GRID,
    "xtick.labelcolor": FAINT,
    "xtick.labelsize": 9.5,
    "ytick.color": GRID,
    "ytick.labelcolor": FAINT,
    "ytick.labelsize": 9.5,
    "ytick.major.size": 0.0,
}

_SVG = "http://www.w3.org/2000/svg"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = {f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"}
_NUMBER = re.compile(r"-?\d+\.\d+")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?\s*")
_FONT = re.compile(r"font:([^;]*?)([\d.]+px)[^;]*")


@contextmanager
def house_style() -> Iterator[None]:
    """Figures that are made within have the page's style, whatever the settings of matplotlib are otherwise."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def as_svg(figure: Figure, name: str, *, title: str, description: str) -> str:
    """A figure as an `<svg>` element for a page; to be called within `house_style()`.

    Args:
        figure: Drawn in the colours of this module only.
        name: Of the figure, one in the page: its ids begin with it.
        title: What it shows, for who does not see it.
        description: What is to be seen in it, for the same.
    """
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None})  # the hour would make each file another one
    root = ET.fromstring(written.getvalue())  # noqa: S314  matplotlib's own
    _strip(root)
    _rename(root, name)
    for element in root.iter():
        _restyle(element)
        if not (element.text or "").strip():
            element.text = None
        element.tail = None  # the line breaks between the elements
    for attribute in ("version", "width", "height"):
        root.attrib.pop(attribute, None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title {name}-desc")
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        told = ET.Element(f"{{{_SVG}}}{tag}", {"id": f"{name}-{tag}"})
        told.text = text
        root.insert(place, told)
    return _as_text(root)


def _strip(root: ET.Element) -> None:
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _DROPPED or (child.tag == f"{{{_SVG}}}defs" and all(one.tag in _DROPPED for one in child)):
                parent.remove(child)


def _rename(root: ET.Element, name: str) -> None:
    """Ids are one page's: those that are used get the figure's name, the others go."""
    used = {element.attrib[_LINK].removeprefix("#") for element in root.iter() if _LINK in element.attrib}
    for element in root.iter():
        for value in element.attrib.values():
            used.update(re.findall(r"url\(#([^)]+)\)", value))
    for element in root.iter():
        identity = element.attrib.pop("id", None)
        if identity in used:
            element.set("id", f"{name}-{identity}")
        if (link := element.attrib.pop(_LINK, None)) is not None:
            element.set("href", f"#{name}-{link.removeprefix('#')}")
        for key, value in element.attrib.items():
            element.set(key, re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", value))


def _restyle(element: ET.Element) -> None:
    """The page's colours and type, and no more digits than can be seen."""
    if (style := element.get("style")) is not None:
        style = _FONT.sub(_without_family, _FONT_FAMILY.sub("", style))
        for colour, variable in _VARIABLES.items():
            style = style.replace(colour, f"var({variable})")
        element.set("style", style.strip().removesuffix(";"))
    for key in ("d", "x", "y", "width", "height", "transform"):
        if (value := element.get(key)) is not None:
            element.set(key, " ".join(_NUMBER.sub(lambda found: f"{float(found[0]):.1f}", value).split()))


def _without_family(font: re.Match[str]) -> str:
    """The parts of what matplotlib before 3.10 says in one, such as `font: 700 9.5px 'DejaVu Sans'`."""
    words = font[1].split()
    weight = "".join(f"font-weight: {word}; " for word in words if word.isdigit())
    return f"{weight}{'font-style: italic; ' * ('italic' in words)}font-size: {font[2]}"


def _as_text(root: ET.Element) -> str:
    ET.register_namespace("", _SVG)
    return ET.tostring(root, encoding="unicode")
