from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest

from concur_agents.replay.results import Comparison
from concur_agents.report import render_report, write_report

from .comparisons import EVIL, agent, comparison, moment, odd, run, usual


def test_the_same_comparisons_give_the_same_page():
    assert render_report([usual(), odd()]) == render_report([usual(), odd()])


def test_a_page_of_the_figures_that_were_written_as_json_is_the_same():
    read = Comparison.model_validate_json(usual().model_dump_json())

    assert render_report([read]) == render_report([usual()])


def test_results_of_before_there_were_agents_and_decisions_still_make_a_page():
    old = run("none").model_dump()
    for name in ("agents", "decisions", "decisions_made"):
        del old[name]

    page = render_report([comparison(type(run("none"))(**old))])

    assert "Over time" in page
    assert "by agent size" not in page.partition("What the figures are")[0]
    assert "The decisions" not in page


@pytest.mark.parametrize(("live", "says", "not_"), [(True, "Measured", "Simulated"), (False, "Simulated", "Measured")])
def test_it_says_loudly_whether_a_server_ran(live, says, not_):
    page = render_report([comparison(run("none"), live=live)])

    assert f"<strong>{says}</strong>" in page
    assert f"<strong>{not_}</strong>" not in page
    assert f"– {says.lower()} –" in page.partition("</title>")[0]


def test_each_of_several_comparisons_says_it_for_itself():
    page = render_report([comparison(run("none"), live=True), comparison(run("none"))])

    assert page.count("<strong>Measured</strong>") == page.count("<strong>Simulated</strong>") == 1
    assert page.count("<article") == 2
    assert page.count("What the figures are") == 1


def test_whatever_a_name_holds_is_shown_and_is_no_part_of_the_page():
    page = render_report([odd()])

    assert "<script" not in page
    assert "<img" not in page
    assert "49" not in re.findall(r"alert\(1\).{0,40}", page)[0]
    assert page.count("&lt;script&gt;document.title=") > 5
    assert "{{ 7*7 }}$x^2$" in page


def test_characters_that_no_page_can_hold_are_left_out_of_names():
    assert "odd-one over time" in render_report([comparison(run("odd\x00-\x1bone\n"))])


def test_it_names_no_other_address():
    page = render_report([usual()])

    assert set(re.findall(r"https?://[^\s\"'<>)]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"url\((?!#)|@import|<link|<script", page)


def test_it_forbids_the_browser_to_fetch_or_to_run_anything():
    head = render_report([usual()]).partition("</head>")[0]

    assert "default-src 'none'; style-src 'unsafe-inline'" in head


def test_the_pictures_have_the_colours_and_the_type_of_the_page_alone():
    for picture in pictures(render_report([usual(), odd()])):
        assert not re.findall(r"#[0-9a-fA-F]{3,6}\b(?![^<]*\))", re.sub(r"url\(#[^)]*\)|href=\"#[^\"]*\"", "", picture))
        assert "font-family" not in picture
        assert "<text" in picture


def pictures(page):
    return re.findall(r"<svg.*?</svg>", page, re.DOTALL)


def test_every_picture_has_a_title_and_a_description():
    for picture in pictures(render_report([usual()])):
        root = ET.fromstring(picture)
        title, description, *_ = root
        assert title.text
        assert len(description.text) > 40
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"


def test_the_table_has_the_figures():
    page = render_report([usual()])
    rows = re.findall(r"<tr>\s*<th scope=\"row\">(?:no gate|working-set)</th>.*?</tr>", page, re.DOTALL)
    cells = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in rows]

    assert cells[0][:5] == ["30.0", "1.00×", "5 min 33 s", "0.71", "0.61 / 0.99"]
    assert cells[1][:3] == ["75.0", "2.50×", "2 min 13 s"]


def test_unknown_figures_are_dashes():
    page = render_report(
        [comparison(run("aimd", hit_rate=None, kv_usage_mean=None, kv_usage_peak=None, preemptions=None))]
    )

    assert "– / –" in page
    assert "None" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "nan" not in page


def test_failed_agents_are_told_with_what_the_first_said():
    page = render_report([comparison(run("none"), run("aimd", failed_agents=3, first_error="no <room>"))])

    assert "aimd: 3 of 40 agents failed, the first with: no &lt;room&gt;" in page
    assert "But 3 of its agents failed" in page


def test_a_moment_without_a_figure_says_so_and_a_run_without_moments_too():
    silent = tuple(moment(n, hit_rate=None, kv_usage=None) for n in range(9))

    assert render_report([comparison(run("none", timeline=silent))]).count("the server does not say") == 2
    assert render_report([comparison(run("none", timeline=()))]).count("nothing was recorded") == 5


def test_the_decisions_are_there_with_their_reasons():
    page = render_report([comparison(run("aimd", decisions=5))])

    assert page.count(" of a cache of 100,000<") == 5
    assert "5 decisions" in page


def test_of_more_decisions_than_are_kept_it_says_how_many_there_were():
    page = render_report([comparison(run("aimd", decisions=100, decisions_made=4321))])

    assert "4,321 decisions, of which the 100 that changed the budget most" in page


def test_of_more_agents_than_are_kept_it_says_how_many_there_were():
    assert "Of 2,000 agents, 1,000 are kept" in render_report([comparison(run("none", agents=1000), agents=2000)])
    assert "are kept" not in render_report([comparison(run("none"))])


def test_of_several_seeds_the_first_is_shown_in_time_and_all_are_in_the_table():
    runs = [run(controller, seed=seed) for seed in (7, 8) for controller in ("none", "aimd")]

    page = render_report([comparison(*runs)])

    assert "Shown are the runs with seed 7." in page
    assert page.count("over time</title>") == 2
    assert page.count('<th scope="row">aimd</th>') >= 2
    assert "Medians of 2 seeds." in page


def test_who_waited_longest_is_named():
    agents = tuple(agent(n, wait_s=float(n)) for n in range(20))

    page = render_report([comparison(run("aimd", agents=0).model_copy(update={"agents": agents}))])

    assert [f"agent-{n}" in page for n in (19, 18, 17, 16)] == [True, True, True, False]


def test_four_runs_of_two_thousand_agents_are_less_than_a_megabyte():
    """With as many moments, agents and decisions as results have."""
    runs = [
        run(name, moments=479, agents=1000, decisions=100, decisions_made=9999)
        for name in ("none", "fixed:16", "aimd", "working-set")
    ]

    assert len(render_report([comparison(*runs, agents=2000)]).encode()) < 1_000_000


def test_nothing_to_report_is_an_error():
    with pytest.raises(ValueError, match="nothing to report"):
        render_report([])
    with pytest.raises(ValueError, match="nothing to report"):
        render_report([comparison()])


def test_settings_of_matplotlib_neither_change_the_page_nor_are_changed():
    expected = render_report([usual()])
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "svg.fonttype": "path", "savefig.dpi": 300}):
        before = dict(mpl.rcParams)
        assert render_report([usual()]) == expected
        assert dict(mpl.rcParams) == before


def test_it_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))

    with pytest.raises(OSError, match="disk full"):
        write_report([usual()], path)

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_is_code_is_escaped_in_the_file_too(tmp_path):
    path = tmp_path / "report.html"

    write_report([odd()], path)

    assert EVIL not in path.read_text(encoding="utf-8")
