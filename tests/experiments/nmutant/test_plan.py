"""How much the nMutant experiment measures."""

from experiments.nmutant.plan import PLANS, quick
from experiments.nmutant.repeats import CANDIDATES
from experiments.nmutant.strength import STRENGTH


def test_plans_name_operators_that_exist_and_quick_asks_for_less():
    for name, plan in PLANS.items():
        assert set(plan.operators) <= set(CANDIDATES[name])
        assert quick(plan).seeds == 1
        assert quick(plan).longest <= plan.longest
        assert quick(plan).judged < plan.judged
        assert f"{plan.judged:,}" in plan.text(name, 1000)
    assert STRENGTH[0] <= 1000
