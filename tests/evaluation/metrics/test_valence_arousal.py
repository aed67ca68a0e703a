"""ValenceArousalMetric: what is pooled is what its name says, over batches, processes, videos and overlapping clips."""
import csv
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from mmaction.structures import ActionDataSample

import lsef_plugins  # noqa: F401
from lsef_plugins.evaluation.functional import (
    ccc,
    ccc_batch20,
    ccc_per_video,
    pcc,
    rating_intervals,
    rmse,
    sagr_product,
    sagr_sign,
)
from lsef_plugins.registry import METRICS

N = 37      # clips; odd, so that two processes need padding
MEASURES = dict(ccc_global=ccc, pcc_global=pcc, rmse_global=rmse, sagr_product=sagr_product, sagr_sign=sagr_sign,
                ccc_batch20=ccc_batch20)


def samples(n=N, frames=None, seed=0, videos=5, invalid=True):
    """Clips of ``frames`` frames (None: one rating per clip), the first with an invalid valence, videos in turn."""
    rng = np.random.default_rng(seed)
    out = []
    for i in range(n):
        truth = rng.uniform(-1, 1, (frames or 1, 2)).astype(np.float32)
        predicted = (truth * .6 + rng.normal(0, .2, truth.shape)).clip(-1, 1).astype(np.float32)
        if invalid and i == 0:
            truth[0, 0] = np.nan
        start = (i // videos) * (frames or 1)
        sample = ActionDataSample(metainfo=dict(video_id=f'v{i % videos}', frame_index=start + np.arange(frames)
                                                if frames else start))
        sample.set_field(torch.from_numpy(truth if frames else truth[0]), 'gt_valence_arousal')
        sample.set_field(torch.from_numpy(predicted if frames else predicted[0]), 'pred_valence_arousal')
        out.append(sample.to_dict())
    return out


def rows_of(data):
    truth = np.concatenate([s['gt_valence_arousal'].reshape(-1, 2).numpy() for s in data]).astype(float)
    predicted = np.concatenate([s['pred_valence_arousal'].reshape(-1, 2).numpy() for s in data]).astype(float)
    videos = [s.get('video_id') for s in data for _ in range(s['gt_valence_arousal'].reshape(-1, 2).shape[0])]
    return truth, predicted, videos


def evaluate(data, batch=8, **kwargs):
    metric = METRICS.build(dict(type='ValenceArousalMetric', **kwargs))
    for start in range(0, len(data), batch):
        metric.process(None, data[start:start + batch])
    return metric.evaluate(len(data)), metric


@pytest.mark.parametrize('frames', [None, 3])
def test_each_number_is_its_formula_over_the_valid_frames(frames):
    data = samples(frames=frames)
    result, metric = evaluate(data)
    truth, predicted, videos = rows_of(data)
    expected = {}
    for column, dimension in enumerate(('valence', 'arousal')):
        rows = ~np.isnan(truth[:, column])
        x, y = truth[rows, column], predicted[rows, column]
        for name, measure in MEASURES.items():
            expected[f'va/{name}_{dimension}'] = measure(x, y)
        expected[f'va/ccc_per_video_{dimension}'] = ccc_per_video(x, y, [v for v, r in zip(videos, rows) if r])
    for name in (*MEASURES, 'ccc_per_video'):
        expected[f'va/{name}'] = (expected[f'va/{name}_valence'] + expected[f'va/{name}_arousal']) / 2
    expected.update({'va/frames': len(truth), 'va/videos': 5})
    assert result == {key: pytest.approx(value, rel=1e-12) for key, value in expected.items()}
    assert len({round(result[f'va/ccc_{how}'], 6) for how in ('global', 'per_video', 'batch20')}) == 3
    assert len(metric.ratings.truth) == len(truth)
    assert result == evaluate(data, batch=5)[0], 'batches of the loader do not matter'


def test_valence_and_arousal_are_not_mixed_up():
    data = samples(invalid=False)
    for sample in data:
        sample['pred_valence_arousal'] = sample['gt_valence_arousal'] * torch.tensor([1., -1.])
    result, _ = evaluate(data)
    assert result['va/ccc_global_valence'] == pytest.approx(1)
    assert result['va/ccc_global_arousal'] < 0 and result['va/sagr_sign_arousal'] == 0


def test_undefined_numbers_are_nan_and_stay_out_of_the_mean_over_videos():
    data = samples(n=6, videos=6)                    # one frame of each video
    result, _ = evaluate(data)
    assert np.isnan(result['va/ccc_per_video_valence']) and np.isnan(result['va/ccc_per_video'])
    assert np.isfinite(result['va/ccc_global'])


def test_a_frame_that_several_clips_predict_counts_once():
    data = samples(n=10, frames=4, videos=1, invalid=False)
    alone, _ = evaluate(data)
    again = samples(n=10, frames=4, videos=1, invalid=False)
    for sample, sign in zip(again, [1, -1] * 5):
        sample['pred_valence_arousal'] = sample['pred_valence_arousal'] + .125 * sign
    opposite = [dict(sample, pred_valence_arousal=2 * plain['pred_valence_arousal'] - sample['pred_valence_arousal'])
                for sample, plain in zip(again, data)]
    merged, metric = evaluate([*again, *opposite])
    assert merged == {key: pytest.approx(value, abs=1e-6) for key, value in alone.items()}
    assert merged['va/frames'] == 40 and metric.ratings.frames.tolist() == list(range(40))
    kept, _ = evaluate([*again, *opposite], overlaps='keep')
    assert kept['va/frames'] == 80 and kept['va/rmse_global'] > alone['va/rmse_global'] + .01
    # The same numbers in two videos are two frames.
    other = [dict(sample, video_id='other') for sample in data]
    assert evaluate([*data, *other])[0]['va/frames'] == 80
    wrong = dict(data[0], gt_valence_arousal=-data[0]['gt_valence_arousal'])
    with pytest.raises(ValueError, match=r"Frame 0 of video 'v0' came with two different true ratings"):
        evaluate([*data, wrong])


def test_without_video_ids_nothing_is_said_of_videos():
    data = [{key: value for key, value in sample.items() if key != 'video_id'} for sample in samples()]
    with pytest.warns(UserWarning, match='no video_id, so ccc_per_video is not reported'):
        result, _ = evaluate(data)
    assert not [key for key in result if 'video' in key]
    assert result['va/ccc_global'] == evaluate(samples())[0]['va/ccc_global']
    with pytest.raises(ValueError, match='1 of 37 samples have no video_id and the others have'):
        evaluate([data[0], *samples()[1:]])


def test_intervals_are_over_videos():
    data = samples(frames=3)
    result, _ = evaluate(data, bootstrap=300, seed=2)
    truth, predicted, videos = rows_of(data)
    expected = rating_intervals(truth[:, 1], predicted[:, 1], videos, 300, 2)
    for name, bounds in expected.items():
        assert (result[f'va/{name}_arousal_low'], result[f'va/{name}_arousal_high']) == bounds
    assert 'va/ccc_batch20_valence_low' not in result and 'va/ccc_global_low' not in result


def test_curves_of_each_video_are_written_in_the_order_of_time(tmp_path):
    data = samples(frames=2, videos=3)
    evaluate(data[::-1], curves_dir=str(tmp_path / 'curves'))
    assert sorted(path.name for path in (tmp_path / 'curves').iterdir()) == \
        [f'v{i}{suffix}' for i in range(3) for suffix in ('.csv', '.png')]
    rows = list(csv.DictReader((tmp_path / 'curves' / 'v0.csv').read_text().splitlines()))
    assert [int(row['frame']) for row in rows] == list(range(26))
    assert rows[0]['valence_true'] == '' and float(rows[0]['arousal_true']) == \
        pytest.approx(float(data[0]['gt_valence_arousal'][0, 1]), abs=1e-6)
    assert float(rows[3]['valence_predicted']) == pytest.approx(float(data[3]['pred_valence_arousal'][1, 0]), abs=1e-6)


def test_a_second_evaluation_starts_from_nothing_and_bfloat16_is_read():
    metric = evaluate(samples(seed=0))[1]
    data = samples(n=11, seed=1)
    metric.process(None, data)
    assert metric.evaluate(11)['va/frames'] == 11
    for sample in data:
        sample['pred_valence_arousal'] = sample['pred_valence_arousal'].bfloat16()
    assert evaluate(data)[0]['va/ccc_global'] == pytest.approx(evaluate(samples(n=11, seed=1))[0]['va/ccc_global'],
                                                               abs=.02)


def test_save_best_works_with_a_rule():
    from mmengine.hooks import CheckpointHook
    assert CheckpointHook(save_best='va/ccc_global', rule='greater').rules == ['greater']


@pytest.mark.parametrize('change, words', [
    (dict(gt_valence_arousal=torch.tensor([0, 0])), r'gt_valence_arousal must be a tensor of floats, got torch\.int64'),
    (dict(pred_valence_arousal=torch.tensor([0, 1])), 'cut off the fractions.*PackAffectInputs'),
    (dict(gt_valence_arousal=None), 'needs gt_valence_arousal and pred_valence_arousal'),
    (dict(gt_valence_arousal=torch.zeros(3)), r'\(3,\) must be \(valence, arousal\)'),
    (dict(gt_valence_arousal=torch.zeros(3, 2)), r'\(3, 2\) and pred_valence_arousal \(1, 2\).*num_frames'),
    (dict(frame_index=np.arange(2)), 'frame_index names 2 frames and the sample has 1'),
    (dict(pred_valence_arousal=torch.tensor([float('nan'), 0.])), r'1 of 37 predictions are not finite \(the first is'),
])
def test_what_cannot_be_evaluated_is_told(change, words):
    data = samples()
    data[4].update(change)
    with pytest.raises(ValueError, match=words):
        evaluate(data)


def test_a_set_without_any_rating_and_wrong_options_are_told():
    data = samples()
    for sample in data:
        sample['gt_valence_arousal'] = torch.tensor([float('nan'), .5])
    with pytest.raises(ValueError, match=r'All 37 frames are without a valid rating \(NaN\) of valence:'):
        evaluate(data)
    with pytest.raises(ValueError, match='given no samples'):
        evaluate([])
    with pytest.raises(ValueError, match="overlaps is 'mean'"):
        evaluate([], overlaps='first')
    with pytest.raises(ValueError, match='at least 100 repetitions'):
        evaluate([], bootstrap=10)


WORKER = '''
import importlib.util, json, sys
import torch.distributed as dist
import lsef_plugins
from mmengine.dataset import DefaultSampler
from lsef_plugins.registry import METRICS
spec = importlib.util.spec_from_file_location('case', sys.argv[1]); case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
dist.init_process_group('gloo')
data = case.samples(frames=3)
mine = list(DefaultSampler(data, shuffle=False))
assert len(mine) == 19, mine  # 37 samples on 2 processes: one is repeated
metric = METRICS.build(dict(type='ValenceArousalMetric', overlaps='keep', bootstrap=100))
for i in mine:
    metric.process(None, [data[i]])
print('RESULT', json.dumps([dist.get_rank(), metric.evaluate(len(data))]))
'''


def test_two_processes_count_every_sample_once(two_processes):
    results = dict(two_processes(WORKER, Path(__file__).resolve()))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        alone, _ = evaluate(samples(frames=3), overlaps='keep', bootstrap=100)
    assert results[0] == results[1] == {key: pytest.approx(value, rel=1e-12) for key, value in alone.items()}
    padded, _ = evaluate([*samples(frames=3), samples(frames=3)[0]], overlaps='keep')
    assert abs(padded['va/ccc_global'] - alone['va/ccc_global']) > 1e-4, 'counting the repeated sample twice would show'
