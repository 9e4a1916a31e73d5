"""Controllers by their names on the command line."""

from __future__ import annotations

import pytest

from concur_agents.control import CONTROLLER_SPECS, Aimd, Fixed, Pi, Unlimited, WorkingSet, parse_controller


@pytest.mark.parametrize(
    ("spec", "kind"),
    [("none", Unlimited), ("aimd", Aimd), ("pi", Pi), ("fixed:16", Fixed), ("working-set", WorkingSet)],
)
def test_a_name_gives_its_controller_and_the_controller_gives_its_name(spec, kind):
    controller = parse_controller(spec)

    assert type(controller) is kind
    assert controller.name == spec


def test_blanks_around_a_name_do_no_harm():
    assert parse_controller(" fixed:4 ").name == "fixed:4"
    assert parse_controller("fixed:016").name == "fixed:16"


def test_each_call_gives_a_new_one_as_controllers_remember():
    assert parse_controller("aimd") is not parse_controller("aimd")


NO_NUMBER = ["fixed", "fixed:", "fixed:x", "fixed:1.5", "fixed:1_6", "fixed: 4", "fixed:4:4", "fixed:٣"]
NOBODY_OR_TOO_MANY = ["fixed:0", "fixed:000", "fixed:-3", "fixed:+3", "fixed:" + "9" * 5000]


@pytest.mark.parametrize("spec", NO_NUMBER + NOBODY_OR_TOO_MANY)
def test_fixed_without_a_number_that_lets_somebody_run_says_what_to_write(spec):
    with pytest.raises(ValueError, match=r"write fixed:N with N agents, 1 or more, for example fixed:16"):
        parse_controller(spec)


@pytest.mark.parametrize("spec", ["", "AIMD", "semaphore", "16", "workingset", "none,aimd"])
def test_an_unknown_name_is_answered_with_the_known_ones(spec):
    with pytest.raises(ValueError, match=r"write one of none, fixed:N, aimd, pi"):
        parse_controller(spec)


@pytest.mark.parametrize("spec", ["none:", "aimd:8", "pi:0.7"])
def test_the_others_take_no_number(spec):
    with pytest.raises(ValueError, match=r"takes no number, write (none|aimd|pi)$"):
        parse_controller(spec)


def test_what_is_listed_can_be_written():
    for spec in CONTROLLER_SPECS:
        parse_controller(spec.replace("N", "3"))
