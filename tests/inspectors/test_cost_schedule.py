from lightning_adv.inspectors.cost_schedule import CostRules, CostSchedule

RULES = CostRules(
    init_cost=1e-3,
    cost_multiplier=2.0,
    success_threshold=0.99,
    patience=5,
    early_stop_patience=25,
    early_stop_threshold=1.0,
)


def costs(successes, norm=9.0):
    schedule = CostSchedule(RULES)
    seen = []
    for success in successes:
        schedule.update(success, norm)
        seen.append(schedule.cost)
    return seen


def test_the_cost_starts_at_zero_and_is_set_after_five_good_steps_in_a_row():
    assert costs([1] * 4 + [0.9] + [1] * 5)[-2:] == [0, 1e-3]


def test_the_cost_doubles_after_five_good_steps_the_first_of_which_set_it():
    # The step that sets the cost clears the counter and then counts itself, as in the authors' code.
    assert costs([1] * 13) == [0] * 4 + [1e-3] * 4 + [2e-3] * 5


def test_the_cost_falls_by_the_power_one_and_a_half_after_five_bad_steps():
    assert costs([1] * 5 + [0] * 5)[-2:] == [1e-3, 1e-3 / 2**1.5]


def test_a_step_at_the_threshold_is_good():
    assert costs([0.99] * 5)[-1] == 1e-3


def test_the_smallest_successful_mask_is_kept():
    schedule = CostSchedule(RULES)
    steps = [(1.0, 9), (0.5, 1), (1.0, 9), (1.0, 8), (0.98, 2), (0.99, 7)]
    assert [schedule.update(*step) for step in steps] == [True, False, False, True, False, True]
    assert schedule.best == 7


def stopped_at(steps):
    schedule = CostSchedule(RULES)
    for number, step in enumerate(steps, start=1):
        schedule.update(*step)
        if schedule.finished:
            return number
    return None


def test_the_search_stops_25_steps_after_the_best_mask_once_the_cost_has_risen_and_fallen():
    rise = [(1.0, 10 - step / 10) for step in range(9)]  # cost set at 5, risen at 9; a better mask at every step
    fall = [(0.0, 5.0)] * 5
    assert stopped_at(rise + fall + [(0.0, 5.0)] * 40) == 9 + 25


def test_the_search_does_not_stop_while_the_cost_has_only_risen():
    assert stopped_at([(1.0, 9.0)] * 500) is None


def test_the_search_does_not_stop_without_a_success():
    assert stopped_at([(0.5, 9.0)] * 500) is None


def test_the_history_names_the_step_from_which_a_cost_holds():
    schedule = CostSchedule(RULES)
    for _ in range(9):
        schedule.update(1.0, 9.0)
    assert schedule.history == [(1, 0.0), (6, 1e-3), (10, 2e-3)]
