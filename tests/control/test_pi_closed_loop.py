"""The proportional-integral regulator around a small plant: agents that grow, wait, pause and finish."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import pytest

from concur_agents.control import Pi, PoolView

SET_POINT = 0.70


@dataclass
class PlantAgent:
    """One agent. It begins a turn every `turn_s`; only there can it be paused."""

    number: int
    tokens: float
    age_s: float = 0.0


class Plant:
    """A server and its gate, second by second.

    Agents begin with `first_tokens`, grow by `growth` tokens a second and finish after `life_s`. Somebody always
    waits unless `crowd` says how many agents there are. Lives and turns are spread over the agents by their
    numbers, as nothing here is random.
    """

    def __init__(self, controller, capacity, *, first_tokens=1000.0, growth=0.0, life_s=10_000.0, turn_s=5, crowd=None):
        self.controller, self.capacity = controller, capacity
        self.first_tokens, self.growth, self.life_s, self.turn_s = first_tokens, growth, life_s, turn_s
        self.left = 10**9 if crowd is None else crowd
        self.active: list[PlantAgent] = []
        self.paused: list[PlantAgent] = []
        self.window = 0
        self.now = 0.0
        self.born = 0
        self.pressures: list[float] = []
        self.windows: list[int] = []
        self.actives: list[int] = []

    @property
    def pressure(self) -> float:
        return sum(agent.tokens for agent in self.active) / self.capacity

    def run(self, says, seconds: int, poll_s: float = 1.0) -> None:
        """Lets so many seconds pass, with a poll every `poll_s`."""
        engine = says((None, None), capacity_tokens=self.capacity)
        polls_per_second = max(1, round(1 / poll_s))
        for second in range(seconds):
            for _ in range(polls_per_second):
                if polls_per_second > 1 or second % round(poll_s) == 0:
                    self.window = self.controller.decide(self._view(), engine, self.now).agents
                self.now += 1 / polls_per_second
            self._second()
            self.pressures.append(self.pressure)
            self.windows.append(self.window)
            self.actives.append(len(self.active))

    def _view(self) -> PoolView:
        return PoolView(
            active=len(self.active),
            running=len(self.active),
            paused=len(self.paused),
            queued=self.left,
            weighed=len(self.active),
            turns=self.born,
            working_set_tokens=sum(agent.tokens for agent in self.active),
        )

    def _second(self) -> None:
        for agent in self.active:
            agent.age_s += 1
            agent.tokens += self.growth
        self.active = [
            agent for agent in self.active if agent.age_s < self.life_s * (0.5 + agent.number * 0.618034 % 1)
        ]
        for agent in list(self.active):
            begins_a_turn = (agent.number + int(agent.age_s)) % self.turn_s == 0
            if begins_a_turn and len(self.active) > self.window:
                self.active.remove(agent)
                self.paused.append(agent)
        while len(self.active) < self.window and (self.paused or self.left > 0):
            if self.paused:
                self.active.append(self.paused.pop(0))
            else:
                self.left -= 1
                self.born += 1
                self.active.append(PlantAgent(self.born, self.first_tokens))


def turns_of(windows: list[int]) -> int:
    """How often a series changed its direction."""
    moves = [after - before for before, after in pairwise(windows) if after != before]
    return sum((one > 0) != (other > 0) for one, other in pairwise(moves))


@pytest.mark.parametrize("start", [0.5, 2.0])
@pytest.mark.parametrize("fit", [4, 8, 40, 300, 2000])
def test_it_settles_at_the_set_point_and_then_stands_still_at_any_size(says, fit, start):
    plant = Plant(Pi(first_window=int(start * fit)), capacity=fit * 1000 / SET_POINT)

    plant.run(says, 500)

    half_an_agent = SET_POINT / fit / 2
    assert plant.pressure == pytest.approx(SET_POINT, abs=max(0.05, half_an_agent) + 0.02)
    assert len(set(plant.windows[400:])) == 1
    assert turns_of(plant.windows) <= 2


@pytest.mark.parametrize("start", [0.25, 4.0])
def test_it_behaves_alike_with_40_agents_and_with_2000(says, start):
    small = Plant(Pi(first_window=int(40 * start)), capacity=40_000 / SET_POINT)
    large = Plant(Pi(first_window=int(2000 * start), max_agents=10_000), capacity=2_000_000 / SET_POINT)

    small.run(says, 300)
    large.run(says, 300)

    both = zip(small.pressures, large.pressures, strict=True)
    assert max(abs(one - other) for one, other in both) < 0.05


@pytest.mark.parametrize("poll_s", [0.25, 1.0, 5.0])
def test_it_settles_alike_whatever_the_poll_interval(says, poll_s):
    plant = Plant(Pi(), capacity=40_000 / SET_POINT)

    plant.run(says, 900, poll_s)

    assert plant.pressure == pytest.approx(SET_POINT, abs=0.07)
    assert len(set(plant.windows[600:])) == 1


def growing(controller, fit=20):
    """Agents that grow twentyfold over some 200 s and finish, `fit` of them at their mean size."""
    return Plant(controller, capacity=fit * 10_500 / SET_POINT, growth=95.0, life_s=200.0)


@pytest.mark.parametrize("fit", [8, 20, 400])
def test_growing_and_finishing_agents_are_held_in_a_band(says, fit):
    plant = growing(Pi(), fit)

    plant.run(says, 3000)

    settled = plant.pressures[1000:]
    assert fmean(settled) == pytest.approx(SET_POINT, abs=0.08)
    assert max(settled) < 1.0
    assert min(settled) > 0.30


def test_a_crowd_of_small_agents_that_grow_together_does_not_overrun_the_cache(says):
    plant = growing(Pi())

    plant.run(says, 1000)

    assert max(plant.pressures) < 1.0


def test_half_the_capacity_gone_is_answered_within_two_minutes_without_undershoot(says):
    plant = Plant(Pi(), capacity=40_000 / SET_POINT)
    plant.run(says, 900)

    plant.capacity /= 2
    plant.run(says, 400)

    assert plant.pressures[900] > 1.0
    assert all(pressure < 0.85 for pressure in plant.pressures[900 + 120 :])
    assert min(plant.pressures[900:]) > 0.55
    assert len(set(plant.windows[-100:])) == 1


def test_twice_the_capacity_is_used_within_three_minutes_without_overshoot(says):
    plant = Plant(Pi(), capacity=40_000 / SET_POINT)
    plant.run(says, 900)

    plant.capacity *= 2
    plant.run(says, 400)

    assert plant.pressures[900] < 0.5
    assert all(pressure > 0.55 for pressure in plant.pressures[900 + 180 :])
    assert max(plant.pressures[900:]) < 0.80


def test_a_quiet_hour_leaves_no_windup_for_the_crowd_that_follows(says):
    plant = Plant(Pi(), capacity=40_000 / SET_POINT, crowd=5)
    plant.run(says, 3600)
    assert max(plant.windows) <= 8

    plant.left = 10**9
    plant.run(says, 900)

    assert max(plant.pressures) < 0.85
    assert plant.pressure == pytest.approx(SET_POINT, abs=0.07)


def test_an_hour_at_the_maximum_leaves_no_windup_for_the_load_that_follows(says):
    """What it was held back from must not have piled up: the answer is as fast as after a minute there."""

    def seconds_to_recover(at_the_maximum_s):
        plant = Plant(Pi(max_agents=20), capacity=40_000 / SET_POINT)
        plant.run(says, at_the_maximum_s)
        assert plant.window == 20
        for agent in plant.active:
            agent.tokens *= 4
        plant.run(says, 300)
        after = plant.pressures[at_the_maximum_s:]
        return next(second for second, pressure in enumerate(after) if pressure < 0.85)

    assert seconds_to_recover(3600) == seconds_to_recover(200) < 60


def test_an_hour_at_the_floor_leaves_no_windup_for_the_room_that_follows(says):
    def window_after_recovery(at_the_floor_s):
        plant = Plant(Pi(), capacity=1_000.0)
        plant.run(says, at_the_floor_s)
        assert plant.window == 1
        plant.capacity = 40_000 / SET_POINT
        plant.run(says, 300)
        return plant.window

    assert window_after_recovery(3600) == window_after_recovery(300) > 30


def test_turns_that_last_minutes_do_not_make_it_brake_again_and_again(says):
    """A cut is carried out where turns begin: until then the pressure that is left says nothing new."""
    plant = Plant(Pi(first_window=60), capacity=40_000 / SET_POINT, turn_s=180)

    plant.run(says, 2400)

    assert min(plant.windows) > 30
    assert plant.pressure == pytest.approx(SET_POINT, abs=0.10)


def test_the_output_is_bounded_at_every_moment(says):
    plant = Plant(Pi(max_agents=50), capacity=1e9)
    plant.run(says, 600)
    plant.capacity = 1.0
    plant.run(says, 600)
    plant.capacity = 1e9
    plant.run(says, 600)

    assert min(plant.windows) == 1
    assert max(plant.windows) == 50
    assert plant.window == 50
