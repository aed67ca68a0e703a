"""No clip that is tested, or that picks the epoch, was trained on: other folds and mixed protocols are refused."""
from pathlib import Path

import pytest

import lsef_plugins  # noqa: F401  (first: it repairs the host before anything of it is imported)
from lsef_plugins.datasets.synthetic.layouts import write_layout
from lsef_plugins.engine import launch
from lsef_plugins.engine.hooks.trained_on_hook import seen_before

FACES = Path(__file__).resolve().parents[3] / 'mmaction_configs' / 'synthetic_faces'
CONFIG = str(FACES / 'framewise-r18-w16_1xb16-u16-10e_synthetic-dfew-fd1-rgb.py')
RATED = str(FACES / 'framewise-r18-w16_1xb16-16x2x1-10e_synthetic-veatic-rgb.py')


def options_for(root, **more):
    options = {'train_cfg.max_epochs': 1, 'train_cfg.val_begin': 1, 'param_scheduler.0.total_steps': 1,
               'log_level': 'ERROR', **more}
    for name in ('train', 'val', 'test'):
        loader = f'{name}_dataloader'
        options.update({f'{loader}.dataset.data_root': str(root), f'{loader}.num_workers': 0,
                        f'{loader}.persistent_workers': False})
    return options


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A data set of DFEW's layout, and a checkpoint of fold 2."""
    place = tmp_path_factory.mktemp('trained')
    write_layout('dfew', place / 'dfew', 35, preset='easy')
    launch.train(CONFIG, work_dir=str(place / 'work'), fold=2, protocol='clean', options=options_for(place / 'dfew'))
    return place


def test_a_checkpoint_is_tested_on_its_own_fold_only(trained, tmp_path):
    checkpoint = str(trained / 'work' / 'epoch_1.pth')
    options = options_for(trained / 'dfew')
    with pytest.raises(launch.LaunchError, match=r'epoch_1\.pth was trained on fold 2, whose training list holds the '
                                                 r'test clips of fold 1 .* Give --fold 2 \(fold=2 .*\), or'):
        launch.test(CONFIG, checkpoint, work_dir=str(tmp_path), options=options)
    # The test list is the same in both protocols.
    assert 'acc/war' in launch.test(CONFIG, checkpoint, work_dir=str(tmp_path), fold=2, options=options)


@pytest.mark.parametrize('fold, ratio, message', [
    (3, 0.1, 'was trained on fold 2'),
    (2, 0.3, r"\('clean', 0\.1, 0\), so it has seen clips that \('clean', 0\.3, 0\) holds out"),
])
def test_a_training_does_not_go_on_over_what_it_holds_out_now(fold, ratio, message, trained, tmp_path):
    options = options_for(trained / 'dfew', **{f'{name}_dataloader.dataset.val_ratio': ratio for name in
                                               ('train', 'val')})
    with pytest.raises(launch.LaunchError, match=message):
        launch.train(CONFIG, work_dir=str(tmp_path), resume=str(trained / 'work' / 'epoch_1.pth'), fold=fold,
                     protocol='clean', options=options)


def annotation(**changes):
    return dict(dict(data_set='dfew', fold=1, split='train', protocol='paper', val_ratio=0.1, val_seed=0), **changes)


@pytest.mark.parametrize('before, now, seen', [
    ({}, {}, False),
    ({}, dict(fold=2), True),
    ({}, dict(data_set='ferv39k', fold=None), False),
    ({}, dict(fold=None), False),                                       # a list of one's own says nothing of folds
    ({}, dict(split='val', protocol='clean'), True),                    # 'paper' trained on the whole list
    ({}, dict(split='test', protocol='clean'), False),
    (dict(protocol='clean'), dict(split='val'), False),                 # the test list, which no protocol trains on
    (dict(protocol='clean'), dict(split='val', protocol='clean', val_seed=1), True),
])
def test_only_what_was_seen_is_refused(before, now, seen):
    assert (seen_before(annotation(**before), annotation(**now)) is not None) == seen


@pytest.mark.parametrize('before, now, seen', [
    ({}, {}, False), ({}, dict(split='test', protocol='clean'), False),
    (dict(train_ratio=.9), {}, True), (dict(train_ratio=.9), dict(split='train'), False),
    (dict(train_ratio=.9), dict(train_ratio=.9), False), (dict(train_ratio=.5), {}, False),
    (dict(train_ratio=.9), dict(split='val'), True),
    (dict(train_ratio=.9, protocol='clean', val_ratio=.3), {}, False),             # it ends at 63 %
    (dict(protocol='clean'), dict(split='val', protocol='clean'), False),
    (dict(protocol='clean'), dict(split='val', protocol='clean', train_ratio=.6), True),
    ({}, dict(split='val', protocol='clean'), True),
    (dict(protocol='clean', val_ratio=.3), dict(split='val', protocol='clean'), False),      # 49 %, and 63 to 70 %
    (dict(train_ratio=.5), dict(split='val', protocol='clean'), False),
    (dict(train_ratio=.9, videos=['0', '1']), dict(videos=['2']), False),
    (dict(train_ratio=.9, videos=['0', '1']), dict(videos=['1', '2']), True),
    (dict(train_ratio=.9, videos=['0', '1']), dict(videos=None), True),
])
def test_of_videos_that_are_cut_no_frame_is_trained_and_tested(before, now, seen):
    rated = dict(data_set='veatic', split='test', protocol='paper', train_ratio=.7, val_ratio=.1)
    fault = seen_before({**rated, 'split': 'train', **before}, {**rated, **now})
    assert (fault is not None) == seen
    if before == dict(train_ratio=.9) and not now:
        assert fault == (
            "trained on 0.0% to 90.0% of each video's frames, and the config asks now for 70.0% to 100.0% (split "
            "'test'). Set protocol='paper', train_ratio=0.9 and val_ratio=0.1 as in that training, or take a "
            'checkpoint that has not seen them.')


@pytest.mark.parametrize('ratio, protocol', [(.5, 'paper'), (.75, 'paper'), (.7, 'clean'), (.33, 'clean')])
def test_shares_of_frames_are_those_of_the_data_set(ratio, protocol):
    from lsef_plugins.datasets import VEATICDataset
    from lsef_plugins.datasets.splits import frame_shares
    for split in ('train', 'val', 'test'):
        data_set = VEATICDataset.__new__(VEATICDataset)
        data_set.split, data_set.protocol, data_set.train_ratio, data_set.val_ratio = split, protocol, ratio, .1
        for share, frame in zip(frame_shares(split, protocol, ratio, .1), data_set.part(100_000)):
            assert abs(share - frame / 100_000) <= 2e-5


@pytest.mark.parametrize('config, changes, what', [
    (RATED, {'train_dataloader.dataset.train_ratio': 0.9}, '0.0% to 90.0% of each video and val_dataloader takes 70'),
    (RATED, {'test_dataloader.dataset.train_ratio': 0.5}, r'to 70.0% of each video and test_dataloader takes 50.0% to'),
    (RATED, {'val_dataloader.dataset.split': 'test', 'val_dataloader.dataset.train_ratio': 0.5},
     'VEATICDataset trains on 0.0% to 70.0% of each video and val_dataloader takes 50.0% to 100.0%: .*one train_ratio'),
    (RATED, {'train_dataloader.dataset.split': 'test'}, 'on 70.0% to 100.0% of each video and val_dataloader takes 70'),
    (CONFIG, {'train_dataloader.dataset.fold': 2}, r'fold \(2 in train_dataloader, 1 in val_dataloader\)'),
    (CONFIG, {'val_dataloader.dataset.protocol': 'clean'}, r'\(protocol, val_ratio, val_seed\) .*paper.* in train'),
    (RATED, {'train_dataloader.dataset.protocol': 'clean', 'val_dataloader.dataset.protocol': 'clean',
             'val_dataloader.dataset.val_ratio': 0.5}, r"VEATICDataset has .*'clean', 0\.4, 0\) in train"),
])
def test_a_config_whose_parts_disagree_is_refused_before_anything_is_read(config, changes, what, tmp_path):
    with pytest.raises(launch.LaunchError, match=what):
        launch.train(config, work_dir=str(tmp_path), options={**options_for(tmp_path / 'nowhere'), **changes})


@pytest.mark.parametrize('changes', [
    {'train': dict(train_ratio=.9, videos=[0, 1]), 'val': dict(videos=[2]), 'test': dict(videos=['2'])},
    {'train': dict(train_ratio=.5)},
    {'train': dict(train_ratio=.9), 'val': dict(train_ratio=.9), 'test': dict(train_ratio=.9)},
    {'val': dict(split='train')},                                       # a look at what is trained on
])
def test_a_config_whose_frames_are_apart_is_not_refused(changes):
    cfg = launch.read_config(RATED, None, 'none', {
        f'{name}_dataloader.dataset.{key}': value for name, each in changes.items() for key, value in each.items()})
    launch._refuse_mixed_splits(cfg)


def test_a_rated_data_set_says_which_videos_it_took(tmp_path):
    from mmaction.registry import DATASETS
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    write_layout('veatic', tmp_path / 'veatic', 3)
    cfg = launch.read_config(RATED, None, 'none', options_for(tmp_path / 'veatic'))
    for asked, kept in (None, None), ([0], ['0']):
        dataset = DATASETS.build({**cfg.train_dataloader.dataset, 'videos': asked})
        assert dataset.metainfo['annotation']['videos'] == kept
        if asked:
            seen = {**dataset.metainfo['annotation'], 'train_ratio': .9}
            now = DATASETS.build(cfg.test_dataloader.dataset).metainfo['annotation']
            assert seen_before(seen, now) and seen_before(seen, {**now, 'videos': ['1']}) is None


def test_the_clean_protocol_has_windows_in_the_embedded_ratings(tmp_path):
    from mmaction.registry import DATASETS
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    write_layout('veatic', tmp_path / 'veatic', 3)
    cfg = launch.read_config(RATED, None, 'none', options_for(tmp_path / 'veatic'), protocol='clean')
    parts = [DATASETS.build(cfg[f'{name}_dataloader'].dataset) for name in ('train', 'val', 'test')]
    assert all(len(part) >= 3 for part in parts) and len(parts[0]) > len(parts[1])
