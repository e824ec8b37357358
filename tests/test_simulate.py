"""The arithmetic of benchmarks/simulate.py, where the answer can be worked out by hand."""

from __future__ import annotations

import pytest

from benchmarks.simulate import Chances, limits, order, simulate

CALM = Chances(start_s=0.0, lost_per_hour=0.0, stragglers=0.0, failing=0.0)
HOUR = 3600.0


def test_equal_slides_take_as_many_rounds_as_needed() -> None:
    found = simulate([HOUR], 10, 4, CALM)
    assert (found.hours, found.worker_hours, found.useful) == (3, 12, 10)
    assert found.efficiency == pytest.approx(10 / 12)


def test_more_workers_than_slides_wait() -> None:
    found = simulate([HOUR], 2, 4, CALM)
    assert (found.hours, found.worker_hours, found.efficiency) == (1, 4, 0.5)


def test_a_start_is_waited_for_by_every_worker() -> None:
    late = Chances(start_s=1800.0, lost_per_hour=0.0, stragglers=0.0, failing=0.0)
    assert simulate([HOUR], 4, 4, late).hours == 1.5


def test_what_fails_is_done_once_more_after_the_others() -> None:
    all_fail = Chances(start_s=0.0, lost_per_hour=0.0, stragglers=0.0, failing=1.0)
    found = simulate([HOUR], 4, 4, all_fail)
    assert (found.hours, found.retried, found.useful, found.efficiency) == (2, 4, 4, 0.5)


def test_stragglers_count_as_work() -> None:
    slow = Chances(start_s=0.0, lost_per_hour=0.0, stragglers=1.0, slower=10.0, failing=0.0)
    assert simulate([HOUR], 4, 4, slow).useful == 40


@pytest.mark.parametrize("again", [0.0, 1.0])
def test_losses_come_at_their_rate_and_cost_what_was_done(again: float) -> None:
    """Of work of 10,000 h, one loss an hour: 10,000 ± 3 standard deviations, half an hour done again for each."""
    often = Chances(start_s=36.0, lost_per_hour=1.0, again=again, stragglers=0.0, failing=0.0)
    found = simulate([HOUR], 10_000, 10, often)
    assert abs(found.losses - 10_000) < 300
    assert found.lost == pytest.approx(found.losses * (0.01 + again / 2), rel=0.02)
    assert found.worker_hours == pytest.approx(found.useful + found.lost + 0.1, rel=0.01)


def test_the_same_seed_is_the_same_run() -> None:
    runs = [simulate([100.0, 900.0], 1000, 8, Chances(), seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]


def test_largest_first_ends_within_a_third_of_the_best() -> None:
    """Graham 1969: at most 4/3 of the optimum; and the optimum is no less than the mean load or the longest slide."""
    times = [60.0] * 50 + [3600.0]
    found = simulate(times, 300, 20, CALM, seed=3, largest_first=True)
    assert found.hours <= 4 / 3 * max(found.useful / 20, 1.0)
    assert found.hours <= simulate(times, 300, 20, CALM, seed=3).hours


def test_limits_are_rates_divided() -> None:
    measured = {"seconds": [10.0, 30.0], "read_bytes_per_slide": 200e6, "units_per_second": 50.0}
    assert limits(measured, 1000.0) == {"disk": 100.0, "scheduler": 1000.0}


def test_the_order_of_slides_is_compared() -> None:
    rows = [line.split("|") for line in order(1).splitlines()[2:]]
    assert all(1 <= float(row[4]) <= float(row[3]) for row in rows)
