from __future__ import annotations

import json
import math

import pytest

from neurochains.chains.budget import BudgetSettings
from neurochains.chains.goal import Goal
from neurochains.chains.paper import PaperSettings
from neurochains.chains.search import SearchSettings
from neurochains.errors import SettingsError
from neurochains.extraction.options import Options


def test_without_options_it_is_the_budget_method_at_5_hundredths():
    options = Options()
    assert options.goal(100) == Goal(divergence=0.05)
    assert options.search() == SearchSettings()
    assert options.certified


def test_the_paper_s_method_has_gates_and_its_own_refit():
    search = Options(method="paper").search()
    assert (search.method, search.gates, search.refit) == ("paper", True, 100)
    assert search.paper == PaperSettings()


def test_options_reach_the_method_that_they_are_for():
    paper = Options(method="paper", lam=0.1, lam_g=0.0, threshold=0.2, steps=7, refit=3, gates=False, seed=5).search()
    assert paper.paper == PaperSettings(lam=0.1, lam_g=0.0, threshold=0.2, steps=7, refit=3)
    assert (paper.gates, paper.refit, paper.seed) == (False, 3, 5)
    budget = Options(steps=7, refit=0, gates=True, score_range="unit").search()
    assert budget.budget.polish == 7
    assert (budget.gates, budget.refit, budget.score_range) == (True, 0, "unit")
    assert budget.budget == BudgetSettings(polish=7)


def test_a_goal_is_promised_by_the_budget_method_and_where_it_was_named():
    assert Options(size=3).certified
    assert not Options(method="paper").certified
    assert not Options(method="paper", size=3).certified
    assert Options(method="paper", fidelity=0.1).certified


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "papier"}, "method is one of budget, paper; got 'papier'. Did you mean paper?"),
        ({"score_range": "bin"}, "score_range is one of unbounded, unit, binary; got 'bin'. Did you mean binary?"),
        ({"objective": "kld"}, "No objective is called 'kld'.*Did you mean kl?"),
        ({"units": "filters"}, r"a sequence such as \(\"filters\",\); got 'filters'"),
        ({"units": ()}, r"a sequence such as .* got \(\)"),
        (
            {"units": ("filter",)},
            "each of units is one of filters, hidden, heads, patches; got 'filter'. Did you mean filters?",
        ),
        ({"steps": -1}, "steps is a whole number, 0 or more; got -1"),
        ({"steps": 2.5}, "steps is a whole number.*got 2.5"),
        ({"refit": -1}, "refit is a whole number.*got -1"),
        ({"refit": True}, "refit is a whole number.*got True"),
        ({"seed": -3}, "seed is a whole number.*got -3"),
        ({"seed": "x"}, "seed is a whole number.*got 'x'"),
        ({"method": "paper", "lam": -0.1}, "lam is a number, 0 or more; got -0.1"),
        ({"method": "paper", "lam_g": math.nan}, "lam_g is a number.*got nan"),
        ({"method": "paper", "threshold": "a"}, "threshold is a number.*got 'a'"),
        ({"lam": 0.1}, "lam belongs to method='paper'; method='budget' takes a goal"),
        ({"lam_g": 0.1}, "lam_g belongs to method='paper'"),
        ({"threshold": 0.1}, "threshold belongs to method='paper'"),
        ({"fidelity": 0.1, "size": 4}, "one goal; got fidelity and size"),
        ({"fidelity": -0.1}, "above 0.*got -0.1"),
        ({"size": 0}, "at least 1 filter; got 0"),
        ({"agreement": 2.0}, "at most 1; got 2.0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(given, message):
    with pytest.raises(SettingsError, match=message):
        Options(**given)


def test_a_size_beyond_the_network_is_refused_once_the_network_is_known():
    options = Options(size=101)
    with pytest.raises(SettingsError, match="has 100 scored filters; a size is 1 to 100, got 101"):
        options.goal(100)


def test_the_record_is_json_and_says_what_was_in_force():
    record = Options(size=9, score_range="binary", units=("hidden",), objective="mse", seed=3).to_json(Goal(least=9))
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert (record["size"], record["fidelity"], record["agreement"]) == (9, None, None)
    assert (record["method"], record["objective"], record["units"]) == ("budget", "mse", ["hidden"])
    assert (record["score_range"], record["seed"]) == ("binary", 3)
    assert record["budget"]["rows"] == BudgetSettings().rows
    assert "paper" not in record


def test_the_record_of_the_paper_s_method_has_one_refit():
    options = Options(method="paper", refit=12, lam=0.3)
    record = options.to_json(options.goal(10))
    assert (record["refit"], record["paper"]["refit"], record["paper"]["lam"]) == (12, 12, 0.3)
    assert record["fidelity"] == 0.05
    assert "budget" not in record


def test_a_callable_is_recorded_by_its_name():
    def my_loss(outputs, original):
        return (outputs - original).square().sum(1)

    assert Options(objective=my_loss).to_json(Goal())["objective"] == "my_loss"
