"""The registered metric: as the host hands samples over, by head, over processes."""
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmaction')

import lsef_plugins  # noqa: F401
from lsef_plugins.registry import METRICS

N, K = 37, 5


def samples(n=N, k=K, seed=0, heads=None):
    """What mmengine's Evaluator hands to a metric: ActionDataSample.to_dict()."""
    from mmaction.structures import ActionDataSample
    rng = np.random.RandomState(seed)
    out = []
    for _i in range(n):
        label = int(rng.choice(k - 1, p=[.6, .25, .1, .05]))  # the last class never occurs
        score = {h: torch.from_numpy(rng.normal(size=k)).float() + (1 if label else 3) * torch.eye(k)[label]
                 for h in heads or ['x']}
        sample = ActionDataSample().set_gt_label(label)
        sample.set_pred_score(score if heads else score['x'])
        out.append(sample.to_dict())
    return out


def plain(data, head=None):
    y = [(int(s['gt_label']), int((s['pred_score'][head] if head else s['pred_score']).argmax())) for s in data]
    classes = sorted({t for t, _ in y})
    recall = {c: np.mean([p == c for t, p in y if t == c]) for c in classes}
    return np.mean([t == p for t, p in y]), np.mean(list(recall.values())), recall


def evaluate(data, batch=8, **kwargs):
    metric = METRICS.build(dict(type='WARUARMetric', **kwargs))
    for start in range(0, len(data), batch):
        metric.process(None, data[start:start + batch])
    return metric.evaluate(len(data)), metric


def test_war_and_uar_of_all_batches_together():
    data = samples()
    result, metric = evaluate(data)
    war, uar, _ = plain(data)
    assert result == {'acc/war': pytest.approx(war), 'acc/uar': pytest.approx(uar)}
    assert abs(war - uar) > 0.02, 'the case must tell the two apart'
    assert metric.confusion[''].sum() == N


def test_the_accuracy_is_the_hosts_top1():
    data = samples()
    host = METRICS.build(dict(type='AccMetric', metric_options=dict(top_k_accuracy=dict(topk=1))))
    host.process(None, data)
    assert evaluate(data)[0]['acc/war'] == pytest.approx(host.evaluate(N)['acc/top1'])


def test_save_best_knows_that_greater_is_better():
    from mmengine.hooks import CheckpointHook
    hook = CheckpointHook(save_best='acc/uar')
    assert hook.rules == ['greater']


def test_per_class_recall_by_name_without_classes_that_do_not_occur():
    data = samples()
    recall = plain(data)[2]
    names = ['Happy', 'Sad', 'Neutral', 'Angry', 'Surprise']
    result, _ = evaluate(data, per_class=True, classes=names)
    assert {k: v for k, v in result.items() if 'recall' in k} == \
        {f'acc/recall_{names[c]}': pytest.approx(r) for c, r in recall.items()}
    assert 'acc/recall_0' in evaluate(data, per_class=True)[0]


def test_class_names_come_from_the_data_set():
    metric = METRICS.build(dict(type='AverageRecallMetric', per_class=True))
    metric.dataset_meta = dict(classes=list('abcde'))
    metric.process(None, samples())
    assert 'acc/recall_a' in metric.evaluate(N)
    metric.dataset_meta = dict(classes=list('abcdefg'))
    metric.process(None, samples())
    with pytest.raises(ValueError, match=r'7 class names \(a, b.*scores 5 classes'):
        metric.evaluate(N)


def test_each_head_has_its_own_numbers():
    data = samples(heads=['rgb', 'pose'])
    result, metric = evaluate(data, prefix='val')
    for head in ('rgb', 'pose'):
        assert (result[f'val/{head}_war'], result[f'val/{head}_uar']) == pytest.approx(plain(data, head)[:2])
    assert set(metric.confusion) == {'rgb', 'pose'}


def test_the_samples_are_not_changed():
    data = samples(heads=['rgb', 'pose'])
    evaluate(data)
    assert isinstance(data[0]['pred_score']['rgb'], torch.Tensor)


def test_bfloat16_scores_are_read():
    data = samples()
    for sample in data:
        sample['pred_score'] = sample['pred_score'].bfloat16()
    assert evaluate(data)[0]['acc/war'] == pytest.approx(plain(data)[0])


def test_a_second_evaluation_starts_from_nothing():
    metric = evaluate(samples(seed=0))[1]
    metric.process(None, samples(n=11, seed=1))
    assert metric.evaluate(11)['acc/war'] == pytest.approx(plain(samples(n=11, seed=1))[0])


def test_nan_scores_are_counted():
    data = samples()
    data[3]['pred_score'][2] = float('nan')
    with pytest.raises(ValueError, match=f'1 of {N} samples have NaN scores'):
        evaluate(data)


def test_a_list_without_labels_is_told_apart():
    data = samples()
    data[0]['gt_label'][0] = -1
    with pytest.raises(ValueError, match=r'-1 \(sample 0\).*cannot be evaluated'):
        evaluate(data)


def test_what_is_no_single_label_classification_is_refused():
    sample = samples(n=1)[0]
    with pytest.raises(ValueError, match='needs pred_score and gt_label'):
        evaluate([dict(gt_label=sample['gt_label'])])
    with pytest.raises(ValueError, match='mean_average_precision'):
        evaluate([dict(sample, gt_label=torch.zeros(5))])
    with pytest.raises(ValueError, match='average_clips'):
        evaluate([dict(sample, pred_score=torch.zeros(3, 5))])
    with pytest.raises(ValueError, match='given no samples'):
        evaluate([])


WORKER = '''
import json, sys, importlib.util
import torch.distributed as dist
import lsef_plugins
from mmengine.dataset import DefaultSampler
from lsef_plugins.registry import METRICS
spec = importlib.util.spec_from_file_location('case', sys.argv[1]); case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
dist.init_process_group('gloo')
data = case.samples()
mine = list(DefaultSampler(data, shuffle=False))
assert len(mine) == 19, mine  # 37 samples on 2 processes: one is repeated
metric = METRICS.build(dict(type='WARUARMetric', per_class=True))
for i in mine:
    metric.process(None, [data[i]])
result = metric.evaluate(len(data))
print('RESULT', json.dumps([dist.get_rank(), result, int(metric.confusion[''].sum()) if metric.confusion else 0]))
'''


def test_two_processes_count_every_sample_once(two_processes):
    results = {}
    for rank, result, counted in two_processes(WORKER, Path(__file__).resolve()):
        results[rank] = result
        assert counted == (N if rank == 0 else 0)
    alone, _ = evaluate(samples(), per_class=True)
    assert results[0] == results[1] == {key: pytest.approx(value) for key, value in alone.items()}
    war, uar, _ = plain(samples() + samples()[:1])
    assert abs(war - alone['acc/war']) > 1e-4, 'counting the repeated sample twice would show'


SCENES = ('Action', 'Ballet', 'Crime')


def with_scenes():
    data = samples()
    for i, sample in enumerate(data):
        sample['scene'] = SCENES[i % 3]
    return data


def test_scenes_have_their_own_numbers():
    data = with_scenes()
    result, _ = evaluate(data, per_scene=True)
    for scene in SCENES:
        chosen = [sample for sample in data if sample['scene'] == scene]
        assert (result[f'acc/war_scene_{scene}'], result[f'acc/uar_scene_{scene}']) == pytest.approx(plain(chosen)[:2])
    assert result['acc/war'] == evaluate(data)[0]['acc/war']
    with pytest.raises(ValueError, match='per_scene=True needs the scene of each sample.*PackAffectInputs'):
        evaluate(samples(), per_scene=True)


def test_intervals_are_those_of_the_matrix():
    from lsef_plugins.evaluation.functional import recall_intervals
    result, metric = evaluate(samples(), bootstrap=500, seed=3)
    for name, bounds in recall_intervals(metric.confusion[''], 500, 3).items():
        assert (result[f'acc/{name}_low'], result[f'acc/{name}_high']) == bounds
        assert bounds[0] < result[f'acc/{name}'] < bounds[1]
    with pytest.raises(ValueError, match='at least 100 repetitions'):
        evaluate([], bootstrap=20)


def test_the_matrix_is_printed_and_written_with_the_names_of_the_classes(tmp_path, monkeypatch):
    from mmengine.logging import MMLogger
    lines = []
    monkeypatch.setattr(MMLogger.get_current_instance(), 'info', lines.append)
    names = ['Happy', 'Sad', 'Neutral', 'Angry', 'Surprise']
    path = tmp_path / 'deep' / 'confusion.csv'
    _, metric = evaluate(samples(), classes=names, print_confusion=True, confusion_file=str(path))
    assert 'true \\ predicted' in lines[0] and all(name in lines[0] for name in names)
    header, *rows = [line.split(',') for line in path.read_text().splitlines()]
    assert header == ['true', *names] and [row[0] for row in rows] == names
    assert np.array([row[1:] for row in rows], int).tolist() == metric.confusion[''].tolist()
    evaluate(samples(heads=['rgb', 'pose']), confusion_file=str(path))
    assert (tmp_path / 'deep' / 'confusion_rgb.csv').exists() and (tmp_path / 'deep' / 'confusion_pose.csv').exists()
    evaluate(samples(heads=['rgb', 'pose']), confusion_file=str(tmp_path / '{head}.csv'))
    assert (tmp_path / 'pose.csv').exists()
    with pytest.raises(ValueError, match=r"ends in \.csv, got 'x\.txt'"):
        evaluate([], confusion_file='x.txt')


def test_the_numbers_are_scikit_learns():
    from sklearn.metrics import balanced_accuracy_score, recall_score
    from sklearn.metrics import confusion_matrix as their_matrix
    data = samples()
    result, metric = evaluate(data, per_class=True)
    truth = [int(s['gt_label']) for s in data]
    predicted = [int(s['pred_score'].argmax()) for s in data]
    assert metric.confusion[''].tolist() == their_matrix(truth, predicted, labels=range(5)).tolist()
    with pytest.warns(UserWarning) if set(predicted) - set(truth) else __import__('contextlib').nullcontext():
        assert result['acc/uar'] == pytest.approx(balanced_accuracy_score(truth, predicted))
    for c, recall in enumerate(recall_score(truth, predicted, labels=range(5), average=None, zero_division=np.nan)):
        if not np.isnan(recall):
            assert result[f'acc/recall_{c}'] == pytest.approx(recall)
