"""The report in a real browser: what it asks for, what it says on its console, and whether it can be read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from concur_agents.report import write_report

from .chromium import browser, find
from .comparisons import comparison, odd, run, usual

WIDTHS = (1440, 800, 360)

NO_WIDER_THAN_THE_WINDOW = "document.documentElement.scrollWidth <= window.innerWidth"
SCRIPTS = "document.querySelectorAll('script, iframe, object, embed, link, img, [onerror], [onload]').length"
DOUBLE_IDS = """
    (() => { const ids = [...document.querySelectorAll('[id]')].map(one => one.id);
             return ids.filter((id, place) => ids.indexOf(id) !== place); })()
"""
BROKEN_REFERENCES = """
    (() => { const wanted = [];
        for (const one of document.querySelectorAll('*')) for (const { name, value } of one.attributes) {
            for (const found of value.matchAll(/url\\(#([^)]+)\\)/g)) wanted.push(found[1]);
            if (name === 'href' && value.startsWith('#')) wanted.push(value.slice(1));
            if (name.startsWith('aria-labelledby')) wanted.push(...value.split(/\\s+/)); }
        return wanted.filter(id => !document.getElementById(id)); })()
"""
FAINT_TEXT = """
    (() => {
        const parts = text => text.match(/[\\d.]+/g).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, place) => sum + v * [0.2126, 0.7152, 0.0722][place], 0);
        const behind = one => { for (; one; one = one.parentElement) {
            const colour = parts(getComputedStyle(one).backgroundColor);
            if (colour.length < 4 || colour[3] > 0.99) return colour; } return [255, 255, 255]; };
        const faint = [];
        for (const one of document.querySelectorAll('body *')) {
            const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
            if (!own || ['title', 'desc', 'STYLE'].includes(one.tagName)) continue;
            const style = getComputedStyle(one);
            const text = one.namespaceURI.endsWith('svg') ? style.fill : style.color;
            const [a, b] = [light(parts(text)), light(behind(one))];
            const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            if (contrast < 4.5) faint.push(`${one.textContent.slice(0, 30)}: ${contrast.toFixed(2)}`);
        }
        return [...new Set(faint)]; })()
"""
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
UNNAMED_PICTURES = (
    "[...document.querySelectorAll('svg')].filter(one => !one.querySelector('title')?.textContent).length"
)
DRAWN = "[...document.querySelectorAll('svg path')].filter(one => one.getBBox().width > 200).length"


@dataclass
class Seen:
    """What a browser had to say of a page."""

    path: object
    requests: list
    messages: list
    title: str
    scripts: int
    double_ids: list
    broken_references: list
    unnamed: int
    drawn: int
    fits: dict = field(default_factory=dict)
    faint: dict = field(default_factory=dict)
    backgrounds: dict = field(default_factory=dict)
    pdf: bytes = b""


async def look(path, folder):
    async with browser(find(), folder) as page:
        await page.show()
        await page.open(path)
        seen = Seen(
            path=path,
            requests=page.requests,
            messages=page.messages,
            title=await page.ask("document.title"),
            scripts=await page.ask(SCRIPTS),
            double_ids=await page.ask(DOUBLE_IDS),
            broken_references=await page.ask(BROKEN_REFERENCES),
            unnamed=await page.ask(UNNAMED_PICTURES),
            drawn=await page.ask(DRAWN),
        )
        for width in WIDTHS:
            await page.show(width=width)
            seen.fits[width] = await page.ask(NO_WIDER_THAN_THE_WINDOW)
        for scheme, media in (("light", "screen"), ("dark", "screen"), ("dark", "print")):
            await page.show(scheme=scheme, media=media)
            seen.faint[scheme, media] = await page.ask(FAINT_TEXT)
            seen.backgrounds[scheme, media] = await page.ask(BACKGROUND)
        seen.pdf = await page.pdf()
    return seen


@pytest.fixture(scope="module", params=["usual", "odd"])
def seen(request, tmp_path_factory):
    if find() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp(request.param)
    comparisons = {
        "usual": [usual(), comparison(run("fixed:4", agents=3), live=True)],
        "odd": [odd()],
    }
    path = folder / "report.html"
    write_report(comparisons[request.param], path)
    return asyncio.run(look(path, folder / "profile"))


def test_it_asks_for_nothing_but_itself(seen):
    assert seen.requests == [seen.path.as_uri()]


def test_nothing_comes_to_the_console(seen):
    assert seen.messages == []


def test_it_holds_no_script_and_what_is_code_in_a_name_does_nothing(seen):
    assert seen.scripts == 0
    assert seen.title.endswith("concur-agents")


def test_every_id_is_there_once_and_every_reference_leads_somewhere(seen):
    assert seen.double_ids == []
    assert seen.broken_references == []


def test_every_picture_is_drawn_and_has_a_name(seen):
    assert seen.unnamed == 0
    assert seen.drawn > 20


@pytest.mark.parametrize("width", WIDTHS)
def test_no_window_is_too_narrow(seen, width):
    assert seen.fits[width]


@pytest.mark.parametrize(("scheme", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_all_text_stands_out_from_what_is_behind_it(seen, scheme, media):
    """By the 4.5 of WCAG 2.2, success criterion 1.4.3."""
    assert seen.faint[scheme, media] == []


def test_the_dark_page_is_dark_and_the_printed_one_is_light(seen):
    assert seen.backgrounds["light", "screen"] == "rgb(255, 255, 255)"
    assert seen.backgrounds["dark", "screen"] == "rgb(15, 19, 24)"
    assert seen.backgrounds["dark", "print"] == "rgb(255, 255, 255)"


def test_it_prints(seen):
    assert seen.pdf.startswith(b"%PDF-")
    assert len(seen.pdf) > 20_000
