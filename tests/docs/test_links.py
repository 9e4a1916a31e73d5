"""Links lead somewhere: files and headings are looked up. Of addresses only the form is: no test may need a network."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docs.pages import PAGES, ROOT, name_of
from markdown_it import MarkdownIt

LOOPBACK = {"localhost", "127.0.0.1"}


def tokens(page):
    for token in MarkdownIt().enable("table").parse(page.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


def links(page):
    return [
        str(token.attrs.get("href") or token.attrs.get("src"))
        for token in tokens(page)
        if token.type in {"link_open", "image"}
    ]


def anchors(page):
    """Anchors of a page as GitHub and MyST make them of its headings, and those that are set by hand."""
    found = set(re.findall(r"^\(([\w-]+)\)=$", page.read_text(encoding="utf-8"), re.MULTILINE))
    read = list(tokens(page))
    for at, token in enumerate(read):
        if token.type == "heading_open":
            text = "".join(part.content for part in read[at + 1].children or ())
            slug = re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-")
            number = sum(other == slug or re.fullmatch(f"{re.escape(slug)}-\\d+", other) is not None for other in found)
            found.add(f"{slug}-{number}" if slug in found else slug)
    return found


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_each_link_leads_to_a_file_and_a_heading(page):
    path = ROOT / page
    for link in links(path):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = path if not parts.path else (path.parent / parts.path).resolve()
        assert target.exists(), f"{page}: {link} leads to no file"
        assert target.is_relative_to(ROOT), f"{page}: {link} leads out of the project"
        if parts.fragment:
            assert parts.fragment in anchors(target), f"{page}: {link} leads to no heading"


@pytest.mark.parametrize("page", [name_of(page) for page in PAGES])
def test_each_address_is_well_formed_and_secure(page):
    for link in links(ROOT / page):
        parts = urlsplit(link)
        if not parts.scheme and not parts.netloc:
            continue
        assert parts.scheme == "https", f"{page}: {link}"
        assert "." in (parts.hostname or ""), f"{page}: {link}"
        assert not re.search(r"\s|%20|[<>\"]", link), f"{page}: {link}"
        assert not link.endswith((".", ",", ")")), f"{page}: {link}"


def test_each_page_is_in_the_table_of_contents():
    index = ROOT / "docs" / "index.md"
    listed = set(re.findall(r"^([\w/-]+)$", index.read_text(encoding="utf-8"), re.MULTILINE))
    for name in [name_of(page) for page in PAGES if page.is_relative_to(ROOT / "docs") and page != index]:
        inside = Path(name).relative_to("docs").with_suffix("").as_posix()
        assert inside in listed or inside.startswith("errors/"), f"{name} is not in docs/index.md"


def test_no_picture_is_left_over():
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page) if not urlsplit(link).scheme}
    for picture in (ROOT / "docs" / "pictures").iterdir():
        assert picture in shown, f"{picture.name} is on no page"
