import numpy as np
import pytest
from scipy.stats import kendalltau

from nasbench.objectives import Constraint, Objective
from nasbench.predictors import PREDICTORS
from nasbench.search import SearchProblem
from nasbench.search.problem import CountedMetrics
from nasbench.search.surrogate import Surrogate
from nasbench.testing.toys import MIXED_SPACE, ToyProblem

TOY = ToyProblem(MIXED_SPACE, num_objectives=3, interaction=0.0)
GENOMES, VALUES = TOY.sample(700)
SEEN, UNSEEN = slice(0, 200), slice(200, None)


def depth(architecture):
    return float(architecture["depth"])


def fitted(objectives, constraints=(), violations=None, counted=(), losses=VALUES):
    problem = SearchProblem(MIXED_SPACE, objectives, constraints, dict(counted))
    surrogate = Surrogate(problem, CountedMetrics(problem), "ridge", seed=0)
    if violations is None:
        violations = np.zeros(len(GENOMES))
    columns = losses[:, : len(objectives)]
    return surrogate.fit(GENOMES[SEEN], columns[SEEN], violations[SEEN])


def test_losses_are_predicted_in_their_order():
    surrogate = fitted([Objective("a", "minimize"), Objective("b", "minimize")])
    losses, violations = surrogate.score(GENOMES[UNSEEN])
    for column in (0, 1):
        assert kendalltau(losses[:, column], VALUES[UNSEEN, column]).statistic > 0.95
    assert (violations == 0).all()


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_can_be_counted_is_not_predicted(direction):
    objectives = [Objective("a", "minimize"), Objective("depth", direction)]
    surrogate = fitted(objectives, counted={"depth": depth})  # told something else in its place
    losses, _ = surrogate.score(GENOMES[UNSEEN])
    exact = [depth(architecture) for architecture in MIXED_SPACE.from_genomes(GENOMES[UNSEEN])]
    assert losses[:, 1].tolist() == [objectives[1].to_loss(value) for value in exact]


def test_where_all_is_counted_there_is_no_predictor():
    problem = SearchProblem(MIXED_SPACE, [Objective("depth", "minimize")], counted={"depth": depth})
    surrogate = Surrogate(problem, CountedMetrics(problem), "no such predictor", seed=0)
    losses, _ = surrogate.fit(GENOMES, VALUES[:, :1], np.zeros(len(GENOMES))).score(GENOMES[:9])
    assert losses[:, 0].tolist() == [depth(a) for a in MIXED_SPACE.from_genomes(GENOMES[:9])]


def test_counted_constraints_are_exact():
    surrogate = fitted(
        [Objective("a", "minimize")], [Constraint("depth", "<=", 2)], counted={"depth": depth}
    )
    _, violations = surrogate.score(GENOMES[UNSEEN])
    exact = [depth(architecture) for architecture in MIXED_SPACE.from_genomes(GENOMES[UNSEEN])]
    assert violations.tolist() == [max(0.0, value - 2) / 2 for value in exact]


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_constraint_on_an_objective_follows_from_its_prediction(direction):
    objective = Objective("a", direction)
    constraint = Constraint("a", "<=", 0.2)
    natural = np.array([objective.from_loss(loss) for loss in VALUES[:, 0]])
    true = np.array([constraint.violation(value) for value in natural])
    _, violations = fitted([objective], [constraint], true).score(GENOMES[UNSEEN])
    assert 0.2 < (true[UNSEEN] > 0).mean() < 0.8
    np.testing.assert_allclose(violations, true[UNSEEN], atol=0.02)


def test_other_violations_are_learned_from_their_sum():
    constraints = [Constraint("a", "<=", 0.2), Constraint("c", "<=", 0.1)]
    parts = [
        np.array([constraint.violation(value) for value in VALUES[:, column]])
        for constraint, column in zip(constraints, (0, 2), strict=True)
    ]
    objectives = [Objective("a", "minimize"), Objective("b", "minimize")]
    _, violations = fitted(objectives, constraints, sum(parts)).score(GENOMES[UNSEEN])
    rest = parts[1][UNSEEN]
    met_the_first = parts[0][UNSEEN] == 0
    worst = met_the_first & (rest > np.quantile(rest, 0.8))
    assert (violations[worst] > 0).mean() > 0.95
    assert (violations[met_the_first & (rest == 0)] == 0).mean() > 0.8


def test_where_all_are_feasible_so_is_everything():
    _, violations = fitted([Objective("a", "minimize")], [Constraint("c", "<=", 9.0)]).score(
        GENOMES
    )
    assert (violations == 0).all()


def test_no_candidates_have_no_losses():
    losses, violations = fitted([Objective("a", "minimize")]).score(GENOMES[:0])
    assert losses.shape == (0, 1)
    assert violations.shape == (0,)


def test_a_stretched_one_predicts_on_its_scale_and_scores_in_losses():
    problem = SearchProblem(
        MIXED_SPACE,
        [Objective("a", "minimize"), Objective("depth", "minimize")],
        counted={"depth": depth},
    )
    surrogate = Surrogate(problem, CountedMetrics(problem), "ridge", seed=0, stretched=True)
    depths = np.array([depth(a) for a in MIXED_SPACE.from_genomes(GENOMES)])
    losses = np.column_stack([VALUES[:, 0], depths])
    surrogate.fit(GENOMES[SEEN], losses[SEEN], np.zeros(200))
    scored, _ = surrogate.score(GENOMES[UNSEEN])
    means, stds = surrogate.predict(GENOMES[UNSEEN])
    np.testing.assert_allclose(surrogate.on_scale(scored), means)
    np.testing.assert_allclose(scored[:, 1], depths[UNSEEN])
    assert (stds[:, 0] > 0).all()
    assert (stds[:, 1] == 0).all()
    assert kendalltau(scored[:, 0], VALUES[UNSEEN, 0]).statistic > 0.8


def test_of_many_trials_the_best_are_learned_from_and_those_since(monkeypatch):
    monkeypatch.setattr("nasbench.search.surrogate._MAX_SAMPLES", 100)
    learned = []

    class Recording(PREDICTORS["ridge"]):
        def _fit(self, genomes, targets):
            learned.append(genomes)
            super()._fit(genomes, targets)

    monkeypatch.setattr(PREDICTORS, "_entries", {"ridge": Recording})
    problem = SearchProblem(MIXED_SPACE, [Objective("a", "minimize")])
    surrogate = Surrogate(problem, CountedMetrics(problem), "ridge", seed=0)
    for count in (450, 460):  # the last size that settles is 400
        surrogate.fit(GENOMES[:count], VALUES[:count, :1], np.zeros(count))
    before, after = learned
    assert (len(before), len(after)) == (150, 160)
    assert (before[:100] == after[:100]).all(), "the choice among the first ones stays"
    assert (after[100:] == GENOMES[400:460]).all()
    best = GENOMES[np.argsort(VALUES[:400, 0])[:75]]
    assert {genome.tobytes() for genome in best} <= {genome.tobytes() for genome in after}
