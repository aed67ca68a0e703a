"""WAR and UAR against the definition written out in plain Python, and against what they are not."""
import numpy as np
import pytest

from lsef_plugins.evaluation.functional import (
    confusion_matrix,
    per_class_recall,
    predicted_classes,
    uar,
    war,
)


def plain_war_uar(y_true, y_pred):
    """The definition, sample by sample, without a matrix."""
    right = sum(t == p for t, p in zip(y_true, y_pred)) / len(y_true)
    recalls = []
    for c in sorted(set(y_true)):
        mine = [p for t, p in zip(y_true, y_pred) if t == c]
        recalls.append(sum(p == c for p in mine) / len(mine))
    return right, sum(recalls) / len(recalls)


@pytest.mark.parametrize('seed', range(30))
def test_war_and_uar_are_their_definitions_on_random_labels(seed):
    rng = np.random.RandomState(seed)
    k, n = rng.randint(1, 12), rng.randint(1, 200)
    weights = rng.dirichlet(np.full(k, 0.3))  # long tails: some classes never occur
    y_true = rng.choice(k, n, p=weights)
    y_pred = np.where(rng.uniform(size=n) < 0.5, y_true, rng.randint(0, k, n))
    matrix = confusion_matrix(y_true, y_pred, k)
    assert (war(matrix), uar(matrix)) == pytest.approx(plain_war_uar(y_true.tolist(), y_pred.tolist()), abs=1e-12)


@pytest.mark.parametrize('y_true, y_pred, k, expected', [
    ([0], [0], 1, (1., 1.)),
    ([3], [0], 7, (0., 0.)),
    ([2, 2, 2, 0], [2, 2, 2, 1], 7, (.75, .5)),
    ([0] * 99 + [1], [0] * 100, 2, (.99, .5)),
])
def test_small_cases_by_hand(y_true, y_pred, k, expected):
    matrix = confusion_matrix(y_true, y_pred, k)
    assert (war(matrix), uar(matrix)) == pytest.approx(expected)


def test_a_class_that_is_only_predicted_does_not_vote():
    """The small case of the host's mean_class_accuracy: 0.625 where UAR is 0.833."""
    y_true, y_pred = [0, 0, 1, 1, 2], [0, 0, 1, 3, 2]
    matrix = confusion_matrix(y_true, y_pred, 4)
    assert uar(matrix) == pytest.approx(2.5 / 3)
    mean_class_accuracy = pytest.importorskip('mmaction.evaluation').mean_class_accuracy
    scores = np.eye(4)[y_pred]
    assert mean_class_accuracy(list(scores), y_true) == pytest.approx(0.625)


def test_rows_are_the_truth():
    matrix = confusion_matrix([0, 0, 2], [1, 1, 0], 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [1, 0, 0]]


def test_the_recall_of_an_absent_class_is_nan_and_of_a_missed_one_zero():
    with np.errstate(all='raise'):  # an absent class is no division by zero
        recall = per_class_recall(confusion_matrix([0, 0, 1], [0, 1, 0], 3))
    assert recall[:2].tolist() == [.5, 0.] and np.isnan(recall[2])


def test_the_order_of_samples_and_the_names_of_classes_do_not_matter():
    rng = np.random.RandomState(0)
    y_true, y_pred = rng.randint(0, 5, 60), rng.randint(0, 5, 60)
    order, names = rng.permutation(60), rng.permutation(9)[:5]
    a, b = confusion_matrix(y_true, y_pred, 5), confusion_matrix(names[y_true][order], names[y_pred][order], 9)
    assert (war(a), uar(a)) == pytest.approx((war(b), uar(b)), abs=1e-12)


def test_the_highest_score_wins_and_the_first_on_a_tie():
    assert predicted_classes([[.1, .7, .2], [-3., -3., -9.], [0., -np.inf, np.inf]]).tolist() == [1, 0, 2]


def test_nan_scores_are_counted_and_refused():
    scores = np.zeros((5, 3))
    scores[2, 1] = scores[4, 0] = np.nan
    with pytest.raises(ValueError, match=r'2 of 5 samples have NaN scores \(the first is sample 2\)'):
        predicted_classes(scores)


@pytest.mark.parametrize('labels, shown', [([0, 7, 1], r'1 of 3 labels in y_true .* 0\.\.6: 7 \(sample 1\)'),
                                           ([-1, 0, -1], r'2 of 3 labels in y_true .* -1 \(sample 0\)')])
def test_labels_out_of_range_are_counted_and_shown(labels, shown):
    with pytest.raises(ValueError, match=shown):
        confusion_matrix(labels, [0, 0, 0], 7)
    with pytest.raises(ValueError, match='y_pred'):
        confusion_matrix([0, 0, 0], labels, 7)


def test_labels_have_to_be_integers_and_one_per_sample():
    with pytest.raises(ValueError, match='float64 and must hold integer'):
        confusion_matrix([0., 1.], [0, 1], 2)
    with pytest.raises(ValueError, match=r'predicted_classes\(scores\)'):
        confusion_matrix([0, 1], [[1, 0], [0, 1]], 2)
    with pytest.raises(ValueError, match='2 labels and y_pred 3'):
        confusion_matrix([0, 1], [0, 1, 1], 2)
    with pytest.raises(ValueError, match=r'shape \(n, k\)'):
        predicted_classes([0.2, 0.8])


@pytest.mark.parametrize('score', (war, uar, per_class_recall))
def test_a_matrix_without_samples_or_not_square_is_refused(score):
    with pytest.raises(ValueError, match='counts 0 samples'):
        score(np.zeros((3, 3), int))
    with pytest.raises(ValueError, match=r'square \(k, k\).*\(2, 3\)'):
        score(np.ones((2, 3), int))
