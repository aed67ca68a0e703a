"""Epochs in chosen proportions: exact counts, every clip of a rare class, the same for all processes and on resume."""
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets import VideoDataset
from mmengine.dataset import ClassBalancedDataset, ConcatDataset, RepeatDataset

import lsef_plugins  # noqa: F401
from lsef_plugins.datasets.class_balanced_sampler import quotas
from lsef_plugins.datasets.labels import class_counts, class_labels
from lsef_plugins.registry import DATA_SAMPLERS

COUNTS = (53, 20, 0, 7)


def clips(counts=COUNTS, **options):
    """MMAction2's own data set over a list; nothing is decoded."""
    import tempfile
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'list.txt'
        path.write_text(''.join(f'clip_{i}.mp4 {label}\n' for i, label in enumerate(labels)))
        return VideoDataset(ann_file=str(path), pipeline=[], **options)


def build(dataset, **options):
    return DATA_SAMPLERS.build(dict(type='ClassBalancedSampler', **options), default_args=dict(dataset=dataset, seed=3))


def drawn(sampler, labels):
    counts = Counter(labels[i] for i in sampler)
    return [counts.get(c, 0) for c in range(len(COUNTS))]


def test_the_hosts_wrapper_does_not_work_with_the_hosts_data_sets():
    """If this fails MMEngine's ClassBalancedDataset has learnt MMAction2's data sets, and docs/affect.md may say so."""
    with pytest.raises(NotImplementedError):
        ClassBalancedDataset(clips(), oversample_thr=.1)


@pytest.mark.parametrize('power, expected', [(0, [53, 20, 0, 7]), (1, [27, 27, 0, 26]), (.5, [40, 25, 0, 15])])
def test_an_epoch_has_the_classes_in_proportion_exactly(power, expected):
    dataset = clips()
    sampler = build(dataset, power=power)
    labels = class_labels(dataset)
    shares = np.array([c ** (1 - power) if c else 0 for c in COUNTS])
    assert np.abs(np.array(expected) - 80 * shares / shares.sum()).max() < 1
    for epoch in range(3):
        sampler.set_epoch(epoch)
        assert sorted(drawn(sampler, labels), reverse=True) == sorted(expected, reverse=True)
        assert drawn(sampler, labels) == sampler.drawn_counts.tolist()
    assert len(sampler) == len(list(sampler)) == 80


def test_within_a_class_every_clip_is_drawn_equally_often_up_to_one():
    dataset = clips()
    labels = class_labels(dataset)
    times = Counter(build(dataset))
    for c in (0, 1, 3):
        found = [times.get(i, 0) for i in np.flatnonzero(labels == c)]
        assert max(found) - min(found) <= 1
    assert min(times[i] for i in np.flatnonzero(labels == 3)) >= 3, 'no clip of the rare class is left out'


def test_over_epochs_every_clip_of_a_frequent_class_has_its_turn():
    dataset = clips()
    sampler = build(dataset)
    seen = set()
    for epoch in range(12):
        sampler.set_epoch(epoch)
        seen |= set(sampler)
    assert seen == set(range(80))


def test_power_zero_is_every_clip_once_in_another_order():
    sampler = build(clips(), power=0)
    order = list(sampler)
    assert sorted(order) == list(range(80)) != order


def test_an_epoch_is_a_function_of_seed_and_epoch():
    dataset = clips()
    one, two = build(dataset), build(dataset)
    list(one), list(one)                    # however often it was read
    one.set_epoch(5), two.set_epoch(5)
    assert list(one) == list(two)
    two.set_epoch(6)
    assert list(one) != list(two) and list(one) != list(build(dataset))
    other = DATA_SAMPLERS.build(dict(type='ClassBalancedSampler', seed=4), default_args=dict(dataset=dataset))
    other.set_epoch(5)
    assert list(other) != list(one)


@pytest.mark.parametrize('num_samples', [1, 3, 79, 200])
def test_the_length_of_an_epoch_can_be_chosen(num_samples):
    sampler = build(clips(), num_samples=num_samples)
    assert len(list(sampler)) == num_samples and max(sampler.drawn_counts) - min(sampler.drawn_counts[[0, 1, 3]]) <= 1


@pytest.mark.parametrize('seed', range(20))
def test_quotas_add_up_and_are_off_by_less_than_one(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 200, rng.integers(1, 9)).tolist()
    counts[0] += 1
    total, power = int(rng.integers(1, 999)), float(rng.choice([0, .3, .5, 1]))
    shares = np.array([c ** (1 - power) if c else 0. for c in counts])
    found = quotas(counts, power, total)
    assert found.sum() == total and np.abs(found - total * shares / shares.sum()).max() < 1
    assert (found[np.array(counts) == 0] == 0).all()
    assert quotas(counts, 0, sum(counts)).tolist() == counts


@pytest.mark.parametrize('round_up, sizes', [(True, [41, 41]), (False, [41, 40])])
def test_processes_share_an_epoch(round_up, sizes, monkeypatch):
    dataset = clips((54, 20, 0, 7))
    shares = []
    whole = build(dataset).epoch_indices()
    for rank in range(2):
        monkeypatch.setattr('lsef_plugins.datasets.class_balanced_sampler.get_dist_info', lambda rank=rank: (rank, 2))
        sampler = build(dataset, round_up=round_up)
        shares.append(list(sampler))
        assert len(sampler) == len(shares[-1]) == sizes[rank]
    together = [index for pair in zip(*shares) for index in pair] + shares[0][len(shares[1]):]
    assert together[:81] == whole and together[81:] == (whole[:1] if round_up else [])


WORKER = '''
import importlib.util, json, sys
import torch.distributed as dist
import lsef_plugins
from lsef_plugins.registry import DATA_SAMPLERS
spec = importlib.util.spec_from_file_location('case', sys.argv[1]); case = importlib.util.module_from_spec(spec)
spec.loader.exec_module(case)
dist.init_process_group('gloo')
sampler = DATA_SAMPLERS.build(dict(type='ClassBalancedSampler'), default_args=dict(dataset=case.clips()))
sampler.set_epoch(2)
print('RESULT', json.dumps([dist.get_rank(), sampler.seed, list(sampler), sampler.epoch_indices()]))
'''


def test_two_processes_agree_without_a_seed(two_processes):
    found = {rank: rest for rank, *rest in two_processes(WORKER, Path(__file__).resolve())}
    assert found[0][0] == found[1][0] and found[0][2] == found[1][2]
    assert [index for pair in zip(found[0][1], found[1][1]) for index in pair] == found[0][2]


def test_labels_are_read_through_wrappers_and_the_class_of_the_last_label_need_not_occur():
    dataset = clips(metainfo=dict(classes=list('abcde')))
    assert class_counts(dataset).tolist() == [53, 20, 0, 7, 0] and class_counts(dataset, 4).tolist() == [53, 20, 0, 7]
    assert class_counts(RepeatDataset(dataset, 3), 4).tolist() == [159, 60, 0, 21]
    assert class_counts(ConcatDataset([clips(), clips((1, 2))])).tolist() == [54, 22, 0, 7]
    with pytest.raises(ValueError, match='has the label 3 and 3 classes'):
        class_counts(dataset, 3)


def test_lists_without_a_class_per_clip_are_told():
    class Rated:
        def __len__(self):
            return 3

        def get_data_info(self, index):
            return dict(valence_arousal=np.zeros(2, np.float32))

    with pytest.raises(ValueError, match=r'Sample 0 of Rated has the label None: classes can only be balanced'):
        build(Rated())
    for label in (-1, [0, 1], .5):
        Rated.get_data_info = lambda self, index, label=label: dict(label=label)
        with pytest.raises(ValueError, match='has the label'):
            build(Rated())


def test_wrong_options_are_told():
    with pytest.raises(ValueError, match='power is between 0'):
        build(clips(), power=2)
    with pytest.raises(ValueError, match='num_samples counts the samples of an epoch, from 1'):
        build(clips(), num_samples=0)
    with pytest.raises(ValueError, match="dict\\(type='DefaultSampler', shuffle=False\\)"):
        build(clips(), shuffle=False)
    Empty = type('Empty', (), {'__len__': lambda self: 0})
    with pytest.raises(ValueError, match='Empty has no samples'):
        build(Empty())
