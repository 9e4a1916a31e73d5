"""`none` and `fixed:N` look at nothing."""

from __future__ import annotations

import pytest

from concur_agents.control import Controller, Fixed, PoolView, Unlimited

CROWD = PoolView(active=500, queued=9_000, working_set_tokens=1e12)


def test_none_limits_nothing_however_bad_it_gets(says):
    controller = Unlimited()

    budget = controller.decide(CROWD, says((1.0, 0.0), capacity_tokens=1.0), 0.0)

    assert (budget.agents, budget.tokens) == (None, None)
    assert budget.reason == "no limit"


def test_fixed_gives_its_number_whatever_the_engine_says(says):
    controller = Fixed(16)

    budgets = [
        controller.decide(PoolView(), None, 0.0),
        controller.decide(CROWD, says((1.0, 0.0), capacity_tokens=1.0), 1.0),
        controller.decide(CROWD, says((0.0, 1.0)), 100.0),
    ]

    assert [budget.agents for budget in budgets] == [16, 16, 16]
    assert {budget.tokens for budget in budgets} == {None}
    assert budgets[0].reason == "fixed at 16 agents"


def test_one_agent_is_a_number_too():
    assert Fixed(1).decide(PoolView(), None, 0.0).reason == "fixed at 1 agent"


@pytest.mark.parametrize("controller", [Unlimited(), Fixed(3)])
def test_neither_needs_metrics(controller):
    assert isinstance(controller, Controller)
    assert controller.needs_metrics is False


def test_they_are_called_as_on_the_command_line():
    assert Unlimited().name == "none"
    assert Fixed(16).name == "fixed:16"
    assert repr(Fixed(16)) == "Fixed(16)"
    assert repr(Unlimited()) == "Unlimited()"


@pytest.mark.parametrize("agents", [0, -3, 2.5, "16", None, True])
def test_a_number_that_lets_nobody_run_or_is_none_is_refused_with_what_to_give(agents):
    with pytest.raises(ValueError, match=r"agents=.*give a whole number, 1 or more"):
        Fixed(agents)
