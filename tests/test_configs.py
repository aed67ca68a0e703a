"""Every shipped config reads, pairs and builds: a twin differs from its baseline in the neck and in nothing else."""
from pathlib import Path

import pytest
from mmengine.config import Config

import lsef_plugins  # noqa: F401  (first: it repairs the host before anything of it is imported)

ROOT = Path(__file__).resolve().parents[1] / 'mmaction_configs'
CONFIGS = sorted(path for path in ROOT.glob('*/*.py') if path.parent.name != '_base_')
TWINS = [path for path in CONFIGS if path.name.startswith('lsef_')]
RECOGNIZERS = ('tsn-r50', 'tsm-r50', 'r2plus1d-r34', 'i3d-r50', 'slowonly-r50', 'x3d-m', 'swin-tiny', 'videomae-base',
               'uniformerv2-base')


def named(path):
    return f'{path.parent.name}/{path.stem}'


def test_each_data_set_has_the_nine_recognizers_each_with_its_twin():
    for folder in ('dfew', 'ferv39k', 'veatic', 'synthetic_faces'):
        for recognizer in RECOGNIZERS:
            found = [path for path in CONFIGS if path.parent.name == folder and path.name.startswith(f'{recognizer}_')]
            assert len(found) == 1 and found[0].with_name(f'lsef_{found[0].name}') in TWINS, (folder, recognizer)


@pytest.mark.parametrize('path', TWINS, ids=named)
def test_a_twin_is_its_baseline_with_a_neck(path):
    stock = Config.fromfile(path.with_name(path.name[len('lsef_'):])).to_dict()
    ours = Config.fromfile(path).to_dict()
    assert ours.pop('lsef_neck') == ours['model'].pop('neck') == dict(type='LSEFNeck')
    assert ours == stock and 'neck' not in stock['model']


@pytest.mark.parametrize('recognizer', ['framewise', 'slowonly'])
@pytest.mark.parametrize('with_head, without', [('lsef-head_', 'lsef_'), ('lsef-headonly_', '')])
def test_the_small_recognizers_with_our_head_differ_from_those_without_it_in_the_head(recognizer, with_head, without):
    small = f'{recognizer}-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py'
    ours, twin = (Config.fromfile(ROOT / 'synthetic_faces' / f'{prefix}{small}').to_dict()
                  for prefix in (with_head, without))
    head, stock = ours['model'].pop('cls_head'), twin['model'].pop('cls_head')
    assert head.pop('type') == 'LSEFHead' and (stock.pop('type'), stock.pop('spatial_type')) == ('I3DHead', 'avg')
    assert head == stock and ours == twin


@pytest.mark.parametrize('path', CONFIGS, ids=named)
def test_a_config_is_its_difference_and_says_what_it_trains_on(path):
    assert len(path.read_text(encoding='utf-8').splitlines()) <= 20
    cfg = Config.fromfile(path)
    datasets = [cfg[f'{split}_dataloader'].dataset for split in ('train', 'val', 'test')]
    assert all(dataset.pipeline for dataset in datasets)
    if path.parent.name in ('dfew', 'ferv39k', 'veatic'):
        assert [dataset.split for dataset in datasets] == ['train', 'val', 'test']
        assert {dataset.protocol for dataset in datasets} == {'paper'}
    rated = cfg.model.cls_head.type == 'ValenceArousalHead'
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, list) else [cfg.val_evaluator]
    assert rated == ('veatic' in path.name) == (evaluators[0].type == 'ValenceArousalMetric')
    assert rated or cfg.model.cls_head.num_classes == 7


def test_the_config_of_scores_is_the_small_recognizer_with_two_hooks_and_a_metric():
    small = 'framewise-r18-w16_1xb16-16x2x1-10e_synthetic-faces-rgb.py'
    folder = ROOT / 'synthetic_faces'
    ours = Config.fromfile(folder / f'decomposition-scores_lsef-{small}').to_dict()
    stock = Config.fromfile(folder / f'lsef_{small}').to_dict()
    assert [hook['type'] for hook in ours.pop('custom_hooks')] == ['DecompositionHook', 'DecompositionTapHook']
    for name in ('val', 'test'):
        kept = [step for step in ours[f'{name}_dataloader']['dataset'].pop('pipeline')
                if step['type'] not in ('LoadPlantedTruth', 'PackAffectInputs')]
        assert kept == stock[f'{name}_dataloader']['dataset'].pop('pipeline')[:-1]
        assert ours.pop(f'{name}_evaluator') == [stock.pop(f'{name}_evaluator'),
                                                 dict(type='DecompositionRecoveryMetric')]
    assert ours.pop('test_pipeline')[2] == dict(type='LoadPlantedTruth') and stock.pop('test_pipeline')
    assert ours == stock


@pytest.mark.parametrize('path', [path for path in TWINS if path.parent.name == 'veatic'], ids=named)
def test_the_neck_finds_more_frames_than_its_rank_in_every_recognizer(path):
    """A head that rates, on the recognizer's own channels, and time left at the neck."""
    import torch
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    cfg = Config.fromfile(path)
    small = path.name.startswith(('lsef_videomae', 'lsef_uniformer'))
    if small:                                    # a ViT-B is wide, not deep enough to differ
        cfg.model.backbone.update(dict(depth=1) if 'depth' in cfg.model.backbone else dict(layers=4, return_list=[3],
                                                                                           n_layers=1))
    model = MODELS.build(cfg.model).eval()
    frames = cfg.train_dataloader.dataset.clip_len
    seen = []
    model.neck.register_forward_pre_hook(lambda neck, args: seen.append(args[0].shape[2]))
    size = 224 if small else 64
    shape = (1, frames, 3, size, size) if cfg.model.type == 'Recognizer2D' else (1, 1, 3, frames, size, size)
    from mmaction.structures import ActionDataSample
    with torch.no_grad():
        found = model(torch.randn(shape), [ActionDataSample()], mode='predict')
    assert found[0].pred_valence_arousal.shape == (2, ) and seen[0] > 2


@pytest.mark.parametrize('folder', ['dfew', 'ferv39k', 'veatic', 'synthetic_faces'])
def test_the_table_and_the_metafile_list_the_nine_pairs_and_claim_no_run(folder):
    import yaml
    listed = yaml.safe_load((ROOT / folder / 'metafile.yml').read_text(encoding='utf-8'))['Models']
    table = (ROOT / folder / 'README.md').read_text(encoding='utf-8')
    wanted = {path.stem for path in CONFIGS if path.parent.name == folder and path.name.split('_8xb8')[0].split('_')[-1]
              in RECOGNIZERS}
    assert {model['Name'] for model in listed} == wanted and len(wanted) == 18
    for model in listed:
        # configs/ is what mmaction_configs/ is called in an installed package, where mim reads this
        assert (ROOT / model['Config'][len('configs/'):]).is_file() and model['Config'].startswith('configs/')
        assert f'({model["Name"]}.py)' in table
        assert all(result['Metrics'] == {} for result in model['Results'])
    assert table.count('| not run | not run |') == 18
