"""Each error has a page, and each sentence that an error can say is on it."""

from __future__ import annotations

import re

import pytest
from docs.pages import DOCS
from docs.raised import VALUE, error_classes, every_sentence, raised

ERRORS = DOCS / "errors"
BY_SECTION = {"ApiError", "SchemaError", "Unsatisfied"}
"""Refusals of the embedded engine: they go to a client as the answer to its request, many of them in vLLM's own words.
Their page says what there is, and not each sentence."""
PAGE_OF = dict.fromkeys(BY_SECTION, "engine-refusals")
RAISED = [what for what in raised() if what.error not in BY_SECTION]


def page_of(error):
    name = PAGE_OF.get(error) or re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error).lower()
    return ERRORS / f"{name}.md"


def quoted(page):
    """The sentences that a page quotes, one a paragraph."""
    text = page.read_text(encoding="utf-8")
    return {" ".join(quote.replace("\n>", " ").split()) for quote in re.findall(r"^> ((?:.|\n>)+)", text, re.MULTILINE)}


@pytest.mark.parametrize("error", sorted(error_classes() - {"ConcurError"}))
def test_each_error_has_a_page_that_names_it_and_is_listed(error):
    page = page_of(error)
    assert page.is_file(), f"{error} has no page docs/errors/{page.name}"
    headings = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any(error in heading for heading in headings)
    listed = (ERRORS / "index.md").read_text(encoding="utf-8")
    assert f"({page.name})" in listed
    assert f"\n{page.stem}\n" in listed  # in the table of contents too


@pytest.mark.parametrize("what", RAISED, ids=lambda what: f"{what.error} at {what.where}")
def test_each_sentence_that_an_error_says_is_on_its_page(what):
    if what.says.strip(f"{VALUE}: ,") == "":
        return  # it hands on another's sentence
    assert what.says in quoted(page_of(what.error)), (
        f"not quoted in docs/errors/{page_of(what.error).name}: {what.says}"
    )


@pytest.mark.parametrize("page", sorted(ERRORS.glob("*.md")), ids=lambda page: page.name)
def test_a_page_quotes_no_sentence_that_no_error_says_any_more(page):
    said = {what.says for what in RAISED if page_of(what.error) == page}
    listing = {f"nothing is scheduled and nothing will happen: {VALUE} tasks wait for one another"}
    assert quoted(page) - said - listing == set()


def test_what_the_page_of_wrong_use_lists_is_still_said():
    rows = re.findall(
        r"^\| (?!message|---)(.+?) \|", (ERRORS / "wrong-use.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    said = list(every_sentence())
    assert rows
    for row in rows:
        assert any(sentence.startswith(row.rstrip(f" {VALUE}")) for sentence in said), row
