"""The insertion matrix: what it reads from configs, what it makes smaller, and that a broken neck fails its column.

One config of each family is examined in full by the command line, at the end.
"""
import faulthandler
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from lsef_plugins.engine.insertion_matrix import catalogue, checks, examine, report, run, shrink, stand_ins, views
from lsef_plugins.engine.insertion_matrix.inputs import Inputs
from lsef_plugins.engine.insertion_matrix.subject import Subject, stir
from lsef_plugins.models import LSEFNeck
from lsef_plugins.registry import MODELS

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools' / 'insertion_matrix.py'
FAMILIES = """
MMRecognizer3D / RGBPoseConv3D / RGBPoseHead
Recognizer2D / MobileNetV2TSM / TSMHead
Recognizer2D / MobileOneTSM (deploy) / TSMHead
Recognizer2D / MobileOneTSM / TSMHead
Recognizer2D / ResNet (flow) / TSNHead
Recognizer2D / ResNet / TRNHead
Recognizer2D / ResNet / TSNHead
Recognizer2D / ResNetTIN / TSMHead
Recognizer2D / ResNetTSM (non-local) / TSMHead
Recognizer2D / ResNetTSM / TPN / TPNHead
Recognizer2D / ResNetTSM / TSMHead
Recognizer2D / TANet / TSMHead
Recognizer2D / mmcls.ResNeXt / TSNHead
Recognizer2D / mmpretrain.MobileOne (deploy) / TSNHead
Recognizer2D / mmpretrain.MobileOne / TSNHead
Recognizer2D / timm.swin_base_patch4_window7_224 / TSNHead
Recognizer2D / torchvision.densenet161 / TSNHead
Recognizer3D / C2D / I3DHead
Recognizer3D / C3D / I3DHead
Recognizer3D / MViT / MViTHead
Recognizer3D / ResNet2Plus1d / I3DHead
Recognizer3D / ResNet3d (non-local) / I3DHead
Recognizer3D / ResNet3d / I3DHead
Recognizer3D / ResNet3dCSN (ip bottleneck) / I3DHead
Recognizer3D / ResNet3dCSN (ir bottleneck) / I3DHead
Recognizer3D / ResNet3dSlowFast / SlowFastHead
Recognizer3D / ResNet3dSlowOnly (flow) / I3DHead
Recognizer3D / ResNet3dSlowOnly (heatmaps) / I3DHead
Recognizer3D / ResNet3dSlowOnly (non-local) / I3DHead
Recognizer3D / ResNet3dSlowOnly / I3DHead
Recognizer3D / ResNet3dSlowOnly / TPN / TPNHead
Recognizer3D / SwinTransformer3D / I3DHead
Recognizer3D / TimeSformer (divided_space_time) / TimeSformerHead
Recognizer3D / TimeSformer (joint_space_time) / TimeSformerHead
Recognizer3D / TimeSformer (space_only) / TimeSformerHead
Recognizer3D / UniFormer / I3DHead
Recognizer3D / UniFormerV2 / TimeSformerHead
Recognizer3D / UniFormerV2 / UniFormerHead
Recognizer3D / VisionTransformer / TimeSformerHead
Recognizer3D / X3D / X3DHead
RecognizerAudio / ResNet / TSNAudioHead
RecognizerAudio / ResNetAudio / TSNAudioHead
RecognizerGCN / AAGCN / GCNHead
RecognizerGCN / STGCN (++) / GCNHead
RecognizerGCN / STGCN / GCNHead
RecognizerOmni / OmniResNet (images and videos) / OmniHead
""".strip().splitlines()
GRAPHS = 'stgcn_8xb16-joint-u100-80e_ntu60-xsub-keypoint-2d.py'
TSM = 'tsm_imagenet-pretrained-mobilenetv2_8xb16-1x1x8-100e_kinetics400-rgb.py'


@pytest.fixture(scope='module')
def shipped():
    return catalogue.shipped()


@pytest.fixture(scope='module', autouse=True)
def scope():
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')


def entry_of(name, shipped):
    return next(entry for entry in shipped if entry.name.endswith(name))


# ---- what is read from configs -----------------------------------------------------------------------------------


def test_the_169_recognizer_configs_form_the_families_listed_here(shipped):
    assert len(shipped) == 169
    assert sorted({entry.family for entry in shipped}) == FAMILIES
    chosen = catalogue.smallest_of_each(shipped)
    assert [entry.family for entry in chosen] == list(dict.fromkeys(entry.family for entry in shipped))


def test_the_smallest_of_a_family_is_chosen():
    names = ['swin-large-p244_32x2x1.py', 'swin-base-p244_32x2x1.py', 'x_r101_4x16x1.py', 'x_r50_8x8x1.py',
             'x_r50_4x16x1.py', 'swin-tiny-p244_32x2x1.py']
    assert sorted(names, key=catalogue.size_of) == [
        'swin-tiny-p244_32x2x1.py', 'x_r50_4x16x1.py', 'x_r50_8x8x1.py', 'x_r101_4x16x1.py',
        'swin-base-p244_32x2x1.py', 'swin-large-p244_32x2x1.py']


@pytest.mark.parametrize('steps, expected', [
    ([dict(type='SampleFrames', clip_len=8, num_clips=10), dict(type='ThreeCrop')], (8, 10, 3)),
    ([dict(type='SampleFrames', clip_len=1, num_clips=25), dict(type='TenCrop')], (1, 25, 10)),
    ([dict(type='SampleFrames', clip_len=1, num_clips=8, twice_sample=True), dict(type='CenterCrop')], (1, 16, 1)),
    ([dict(type='DenseSampleFrames', clip_len=1, num_clips=8, test_mode=True), dict(type='ThreeCrop')], (1, 80, 3)),
    ([dict(type='DenseSampleFrames', clip_len=1, num_clips=8)], (1, 8, 1)),
    ([dict(type='DenseSampleFrames', clip_len=1, num_clips=5, num_sample_positions=4, test_mode=True)], (1, 20, 1)),
    ([dict(type='UniformSampleFrames', clip_len=48, num_clips=10),
      dict(type='GeneratePoseTarget', double=True), dict(type='CenterCrop')], (48, 20, 1))])
def test_clips_and_crops_are_those_of_the_pipeline(steps, expected):
    assert tuple(views.sampling_of(steps)) == expected


def test_a_pipeline_is_found_inside_every_wrapper():
    steps = [dict(type='SampleFrames', clip_len=4, num_clips=7)]
    inner = dict(type='VideoDataset', pipeline=steps)
    for dataset in (inner, dict(type='RepeatDataset', dataset=inner), dict(type='ConcatDataset', datasets=[inner])):
        for loader in (dict(dataset=dataset), [dict(dataset=dataset)]):
            assert views.pipeline_of(Config(dict(test_dataloader=loader)), 'test_dataloader') == steps
    assert views.pipeline_of(Config(dict(val_dataloader=dict(dataset=inner))), 'test_dataloader', 'val_dataloader')
    assert views.sampling_of(None) is None


def test_the_views_of_well_known_configs(shipped):
    sampling = {name: views.test_sampling(entry_of(name, shipped).cfg) for name in (TSM, GRAPHS)}
    assert tuple(sampling[TSM]) == (1, 8, 3) and tuple(sampling[GRAPHS]) == (100, 10, 1)


# ---- what is made smaller ----------------------------------------------------------------------------------------


def texts(value):
    if isinstance(value, dict):
        return [each for item in value.values() for each in texts(item)]
    if isinstance(value, (list, tuple)):
        return [each for item in value for each in texts(item)]
    return [value] if isinstance(value, str) else []


def test_nothing_is_left_to_download_and_no_class_is_swapped(shipped):
    for entry in shipped:
        before = entry.cfg.model.to_dict()
        small, _ = shrink.shrunken(entry.cfg.model)
        assert not [text for text in texts(small.to_dict()) if '://' in text], entry.name
        assert not small.backbone.get('pretrained')
        assert not small.backbone.get('clip_pretrained', small.backbone.type == 'UniFormerV2'), entry.name
        for part in ('backbone', 'neck', 'cls_head'):
            assert catalogue.type_name(small.get(part)) == catalogue.type_name(before.get(part))
        assert small.cls_head.get('num_classes') == before['cls_head'].get('num_classes')
        assert entry.cfg.model.to_dict() == before, 'the config itself was changed'


def test_small_models_keep_their_size_and_large_ones_their_heads_width(shipped):
    for name in ('x3d_s_13x6x1_facebook-kinetics400-rgb.py', TSM, GRAPHS,
                 'slowonly_r50_8xb16-4x16x1-256e_kinetics400-rgb.py'):
        assert shrink.shrunken(entry_of(name, shipped).cfg.model).notes == []
    large = entry_of('vit-large-p16_videomae-k400-pre_16x4x1_kinetics-400.py', shipped)
    small, notes = shrink.shrunken(large.cfg.model)
    assert (small.backbone.depth, small.backbone.embed_dims, small.cls_head.in_channels) == (4, 192, 192)
    assert small.backbone.embed_dims // small.backbone.num_heads == 64
    assert any('layers 24 -> 4, width 1024 -> 192' in note for note in notes)
    deep, _ = shrink.shrunken(entry_of('slowfast_r101-r50_32xb8-4x16x1-256e_kinetics400-rgb.py', shipped).cfg.model)
    assert (deep.backbone.slow_pathway.depth, deep.backbone.fast_pathway.depth) == (50, 50)


def test_labels_are_mixed_for_the_classes_of_the_head(shipped):
    entry = entry_of('mvit-large-p244_u40_sthv2-rgb.py', shipped)
    small, notes = shrink.shrunken(entry.cfg.model)
    assert {each.num_classes for each in small.data_preprocessor.blending.augments} == {174}
    assert sum('blending num_classes 400 -> 174' in note for note in notes) == 1


def test_constant_weights_are_stirred_so_that_no_branch_is_silent():
    model = torch.nn.Module()
    model.backbone = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    kept = model.backbone[0].weight.clone()
    stir(model)
    assert model.backbone[1].weight.std() > 0 and model.backbone[1].bias.std() > 0
    assert torch.equal(model.backbone[0].weight, kept)


@pytest.mark.parametrize('model, geometry, expected', [
    (dict(type='Recognizer2D', backbone=dict(type='ResNet'), cls_head=dict(num_classes=3)), (8, 32), (16, 3, 32, 32)),
    (dict(type='Recognizer3D', backbone=dict(type='X', in_channels=17), cls_head=dict(num_classes=3)), (6, 24),
     (16, 17, 6, 24, 24)),
    (dict(type='RecognizerGCN', backbone=dict(type='STGCN', in_channels=2,
                                              graph_cfg=dict(layout='coco', mode='stgcn_spatial')),
          cls_head=dict(num_classes=3)), (5, 32), (16, 2, 5, 17, 2))])
def test_inputs_have_the_shapes_of_the_host(model, geometry, expected):
    made = Inputs(Config(dict(model=model)).model, shrink.Geometry(*geometry))
    assert made.shapes(16)['inputs'] == expected


def test_the_stand_in_of_tin_shift_moves_groups_of_channels_by_frames():
    x = torch.randn(2, 5, 6, 3, dtype=torch.float64, requires_grad=True)
    shift = torch.tensor([[1, -2, 0], [5, 0, -1]])
    expected = torch.zeros_like(x)
    for clip in range(2):
        for channel in range(6):
            for t in range(5):
                to = t + int(shift[clip, channel // 2])
                if 0 <= to < 5:
                    expected[clip, to, channel] = x[clip, t, channel]
    assert torch.equal(stand_ins.tin_shift(x, shift), expected)
    assert torch.autograd.gradcheck(lambda y: stand_ins.tin_shift(y, shift), x)


# ---- a broken neck fails the table, in the right column ----------------------------------------------------------


@MODELS.register_module(name='MatrixTestAwake')
class Awake(LSEFNeck):
    """Its output convolution is not zero at the start."""

    def init_weights(self):
        super().init_weights()
        for stream in self.streams:
            torch.nn.init.normal_(stream.cim.out.weight)


@MODELS.register_module(name='MatrixTestRaw')
class Raw(LSEFNeck):
    """Holds a parameter outside of a leaf module."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def rewrite(self, maps):
        maps, losses = super().rewrite(maps)
        return [x + self.gain * x for x in maps], losses


@MODELS.register_module(name='MatrixTestDead')
class Dead(LSEFNeck):
    """Has parameters that nothing reaches."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.spare = torch.nn.Conv3d(2, 2, 1)


@MODELS.register_module(name='MatrixTestDeaf')
class Deaf(LSEFNeck):
    """Hooks itself in by closures, which a copy shares with the original."""

    def place(self, recognizer, site):
        super().place(recognizer, site)
        module = recognizer.get_submodule(site.module)
        key, _ = list(module._forward_pre_hooks.items())[-1]
        module._forward_pre_hooks[key] = lambda *args: self._on_enter(*args)


@MODELS.register_module(name='MatrixTestCoarse')
class Coarse(LSEFNeck):
    """Overflows in bfloat16 only."""

    def rewrite(self, maps):
        maps, losses = super().rewrite(maps)
        if torch.is_autocast_enabled('cpu'):
            maps = [x * float('inf') for x in maps]
        return maps, losses


@MODELS.register_module(name='MatrixTestMisplaced')
class Misplaced(LSEFNeck):
    """Puts a parameter elsewhere in the recognizer."""

    def place(self, recognizer, site):
        super().place(recognizer, site)
        recognizer.backbone.extra = torch.nn.Conv3d(1, 1, 1)


@pytest.mark.parametrize('config, neck, column, words', [
    (GRAPHS, 'MatrixTestAwake', 'identity', 'differs by'),
    (GRAPHS, 'MatrixTestAwake', 'predict', 'differs by'),
    (GRAPHS, 'MatrixTestAwake', 'tensor mode', 'differs by'),
    (TSM, 'MatrixTestRaw', 'optimizer', 'not exactly once: neck.gain 0 times'),
    (GRAPHS, 'MatrixTestDead', 'learns', 'no gradient after two steps: neck.spare'),
    (GRAPHS, 'MatrixTestDeaf', 'deepcopy', 'Deaf was not reached'),
    (GRAPHS, 'MatrixTestCoarse', 'bf16', 'loss'),
    (GRAPHS, 'MatrixTestMisplaced', 'loads', r'also missing: \[.backbone.extra')])
def test_a_broken_neck_is_found_in_its_column(config, neck, column, words, shipped):
    subject = Subject(entry_of(config, shipped).cfg, neck)
    cell = examine.cell_of(checks.COLUMNS[column], subject)
    assert cell['state'] == 'broken' and re.search(words, cell['note']), cell


def test_a_sound_neck_keeps_every_promise_and_a_hook_of_ours_on_the_stock_model_is_found(shipped):
    entry = entry_of(GRAPHS, shipped)
    row = examine.examine(entry)
    assert (row['status'], row['reason']) == ('passed', '')
    assert row['maps'] == [[256, 4, 17, 1]] or row['maps'][0][:2] == [256, 4]
    assert row['cells']['predict']['note'].startswith('10 x 1')
    subject = Subject(entry.cfg)
    subject.stock.backbone.register_forward_hook(catalogue.read)
    with pytest.raises(checks.Broken, match='backbone has a hook of ours'):
        checks.passive(subject)


def test_one_broken_column_fails_the_row_and_the_others_are_still_examined(shipped):
    row = examine.examine(entry_of(GRAPHS, shipped), 'MatrixTestDead')
    assert row['status'] == 'failed' and row['reason'].startswith('learns: 2 of ')
    assert list(row['cells']) == list(checks.COLUMNS)
    assert row['cells']['identity']['state'] == 'ok' and row['cells']['optimizer']['state'] == 'ok'


@pytest.mark.parametrize('column, status', [('identity', 'failed'), ('learns', 'failed'), ('fcn_test', 'passed')])
def test_a_stock_that_cannot_do_the_essential_fails_the_row(column, status, shipped, monkeypatch):
    def cannot(subject):
        raise checks.NotHere('stock: planted')

    monkeypatch.setattr(examine, 'COLUMNS', {'passive': checks.passive, column: cannot})
    row = examine.examine(entry_of(GRAPHS, shipped))
    assert row['status'] == status and row['cells'][column]['state'] == 'not here'
    assert row['reason'] == (f'{column}: stock: planted' if status == 'failed' else '')


def test_a_model_that_cannot_be_built_is_a_failed_row(shipped):
    entry = entry_of(GRAPHS, shipped)
    cfg = Config(entry.cfg.to_dict())
    cfg.model.backbone.graph_cfg.layout = 'squid'
    row = examine.examine(entry._replace(cfg=cfg))
    assert row['status'] == 'failed' and row['reason'].startswith('build: ')


def test_an_equal_shape_is_asked_for_before_equal_values():
    with pytest.raises(checks.Broken, match=r'shapes \[\(2,\)\] instead of \[\(3,\)\]'):
        checks.equal([torch.zeros(2)], [torch.zeros(3)])
    with pytest.raises(checks.Broken, match='differs by inf'):
        checks.equal([torch.tensor([float('nan')])], [torch.zeros(1)])
    with pytest.raises(checks.NotHere, match='stock output is not finite'):
        checks.equal([torch.zeros(1)], [torch.tensor([float('nan')])])
    with pytest.raises(checks.Broken, match='nothing came out'):
        checks.equal([], [])
    assert checks.equal([torch.tensor([1e6])], [torch.tensor([1e6 + 0.5])]) == '5e-07'


@pytest.mark.parametrize('kind, package', [('timm.swin', 'timm'), ('torchvision.densenet161', 'torchvision'),
                                           ('mmcls.ResNeXt', 'mmcls'), ('MobileOneTSM', 'mmpretrain')])
def test_a_config_that_needs_another_package_says_which(kind, package):
    assert examine.needed_packages(Config(dict(backbone=dict(type=kind)))) == [package]


def test_an_absent_package_and_a_broken_one_are_told_apart(tmp_path, monkeypatch):
    assert examine.lacking([]) is None
    assert examine.lacking(['no_such_package_at_all']) == 'needs no_such_package_at_all'
    (tmp_path / 'timm.py').write_text("raise RuntimeError('operator nms does not exist')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'timm', raising=False)
    assert examine.lacking(['timm']) == 'needs a working timm (RuntimeError: operator nms does not exist)'


# ---- a process for each config -----------------------------------------------------------------------------------


def entries(*names):
    return [catalogue.Entry(f'folder/{name}.py', f'family of {name}', Config(dict(name=name))) for name in names]


def fake_work(entry, neck):
    kind = entry.cfg.name.split('-')[0]
    print(f'{examine.CHECKING}learns', flush=True)
    faulthandler.disable()
    if kind == 'crash':
        os.kill(os.getpid(), signal.SIGSEGV)
    if kind == 'memory':
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == 'exit':
        os._exit(3)
    if kind == 'raise':
        raise RuntimeError('planted')
    if kind == 'slow':
        time.sleep(60)
    status = {'bad': 'failed', 'poor': 'needs'}.get(kind, 'passed')
    return dict(name=entry.name, family=entry.family, neck=neck, status=status, reason='', cells={}, pid=os.getpid())


def test_whatever_happens_to_one_process_the_others_have_their_rows(tmp_path):
    lines = []
    names = ('good', 'crash', 'memory', 'exit', 'raise', 'slow', 'good-too')
    rows = run.run(entries(*names), work_dir=tmp_path, jobs=2, timeout=8, say=lines.append, work=fake_work)
    assert [row['name'] for row in rows] == [f'folder/{name}.py' for name in names]
    reasons = {row['name'].split('/')[1][:-3]: (row['status'], row['reason']) for row in rows}
    assert reasons['good'] == reasons['good-too'] == ('passed', '')
    assert reasons['crash'] == ('failed', 'killed by SIGSEGV in learns')
    assert reasons['memory'] == ('failed', 'killed by SIGKILL (out of memory?) in learns')
    assert reasons['exit'] == ('failed', 'ended with code 3 and no row in learns')
    assert reasons['raise'] == ('failed', 'ended with code 1 and no row in learns')
    assert reasons['slow'] == ('failed', 'not ready after 8 s in learns')
    assert len({row.get('pid') for row in rows if 'pid' in row}) == 2
    assert len(lines) == len(names) and lines[-1].startswith('[7/7] ')
    assert not list(tmp_path.rglob('*.tmp*'))
    assert report.counts(rows) == dict(passed=2, failed=5, needs=0)


def test_a_second_start_examines_only_what_has_not_passed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, 'source_hash', lambda: 'these')

    def go(**options):
        rows = run.run(entries('good', 'bad', 'poor'), work_dir=tmp_path, say=lambda line: None, work=fake_work,
                       **options)
        return [row['pid'] for row in rows]

    first, second = go(), go()
    assert second[0] == first[0] and second[1] != first[1] and second[2] != first[2]
    assert go(fresh=True)[0] != first[0]
    third = go()
    assert go(neck='SEM')[0] != third[0], 'another neck has rows of its own'
    assert go()[0] == third[0]
    monkeypatch.setattr(run, 'source_hash', lambda: 'another')
    assert go()[0] != third[0], 'other sources, other rows'


def test_a_row_that_is_broken_off_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(run, 'source_hash', lambda: 'these')
    good = entries('good')
    before = run.run(good, work_dir=tmp_path, say=lambda line: None, work=fake_work)
    file = run.file_of(tmp_path, good[0], 'LSEFNeck')
    assert run.run(good, work_dir=tmp_path, say=lambda line: None, work=fake_work) == before
    for text in ('{"key": "', '[]', json.dumps(dict(key='another', row=before[0]))):
        file.write_text(text)
        assert run.run(good, work_dir=tmp_path, say=lambda line: None, work=fake_work)[0]['pid'] != before[0]['pid']


def test_the_key_follows_sources_versions_and_config(tmp_path):
    (tmp_path / 'models').mkdir()
    (tmp_path / 'models' / 'a.py').write_text('1')
    before = run.source_hash(tmp_path)
    assert run.source_hash(tmp_path) == before
    (tmp_path / 'models' / 'a.py').write_text('2')
    assert run.source_hash(tmp_path) != before
    one, other = entries('one')[0], entries('other')[0]
    keys = {run.key_of(one, 'SEM', 1), run.key_of(one, 'SEM', 2), run.key_of(one, 'DDM', 1),
            run.key_of(one._replace(cfg=other.cfg), 'SEM', 1)}
    assert len(keys) == 4


# ---- the table ---------------------------------------------------------------------------------------------------


def test_the_table_names_what_failed_and_counts_what_was_not_examined(tmp_path):
    cells = {column: dict(state='ok', note='') for column in checks.COLUMNS}
    good = dict(name='a/good.py', family='F', neck='SEM', status='passed', reason='', cells=cells, maps=[[8, 4, 1, 2]],
                geometry=dict(t=8, s=32, own_frames=32), shrunk=['depth 101 -> 50'], views=30)
    bad = dict(good, name='a/bad.py', status='failed', reason='learns: a | b',
               cells=dict(cells, learns=dict(state='broken', note='a | b'), bf16=dict(state='not here', note='why')))
    poor = dict(name='a/poor.py', family='G', neck='SEM', status='needs', reason='needs timm', cells={})
    text = report.markdown([good, bad, poor], dict(torch='2'), 'python x')
    assert '3 configs of 2 families: 1 passed, 1 failed, 1 not examined (needs timm: 1)' in text
    assert '- `a/bad.py`: failed: learns: a / b' in text and '- bf16, 1 configs: why' in text
    assert '## F: 1 of 2' in text and '8 x 4 x 1 x 2' in text and 'needs: needs timm' in text
    assert '| F | 2 | 32, 8 | 32 | depth 101 -> 50 |' in text
    report.write([good, bad, poor], dict(torch='2'), 'python x', tmp_path / 'o' / 't.md', tmp_path / 'o' / 't.json')
    assert (tmp_path / 'o' / 't.md').read_text(encoding='utf-8') == text
    assert json.loads((tmp_path / 'o' / 't.json').read_text())['counts'] == dict(passed=1, failed=1, needs=1)
    assert len(list((tmp_path / 'o').iterdir())) == 2


def test_rows_of_another_environment_fill_in_and_say_so(tmp_path):
    row = dict(name='a/x.py', family='F', neck='SEM', status='needs', reason='needs mmcls', cells={})
    failed = dict(row, name='a/y.py', status='failed', reason='identity: differs')
    theirs = [dict(row, status='passed', reason=''), dict(failed, status='passed', reason='')]
    report.write(theirs, dict(torch='2', mmcv='2.0'), 'x', data=tmp_path / 'o.json')
    rows = report.completed([row, failed], dict(torch='2', mmcv='2.1'), tmp_path / 'o.json')
    assert [each['status'] for each in rows] == ['passed', 'failed'], 'what failed here is not hidden'
    assert '- `a/x.py`: passed with mmcv 2.0. Here it needs mmcls.' in report.markdown(rows, {}, 'x')
    for text in ('{}', 'no json', '[1]'):
        (tmp_path / 'o.json').write_text(text)
        with pytest.raises(catalogue.MatrixError, match='holds no rows of this tool'):
            report.completed([row], {}, tmp_path / 'o.json')


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('insertion_matrix_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('arguments, words', [
    (['nothing/like/this*'], r"'nothing/like/this\*' is no config file and fits none of the configs"),
    (['--family', 'Quantum'], r"No family is called anything with 'Quantum'. There are:"),
    (['--neck', 'TPN'], r"--neck 'TPN' is no neck of this pack; there are .*LSEFNeck"),
    (['--jobs', '0', GRAPHS], 'jobs counts from 1'),
    ([GRAPHS, '--out', '{folder}'], 'could not be written')])
def test_what_cannot_be_served_is_told_before_any_work(arguments, words, tool, tmp_path, capsys):
    given = [each.format(folder=tmp_path) for each in arguments]
    assert tool.main([*given, '--work-dir', str(tmp_path / 'work')]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_file_that_is_no_config_or_holds_no_recognizer_is_told(tool, tmp_path, capsys):
    broken, other = tmp_path / 'broken.py', tmp_path / 'other.py'
    broken.write_text('model = dict(')
    other.write_text("model = dict(type='BMN')")
    assert tool.main([str(broken), '--list']) == 2
    assert 'cannot be read' in capsys.readouterr().err
    assert tool.main([str(other), '--list']) == 2
    assert 'holds no recognizer' in capsys.readouterr().err


def test_the_exit_status_tells_failed_from_not_examined(tool, tmp_path, monkeypatch, capsys):
    states = []
    monkeypatch.setattr(run, 'run', lambda *args, **kwargs: [
        dict(name='a', family='F', neck='SEM', status=state, reason='', cells={}) for state in states])
    for states[:], code in (([], 0), (['passed'], 0), (['passed', 'needs'], 3), (['needs', 'failed'], 1)):
        assert tool.main([GRAPHS, '--work-dir', str(tmp_path)]) == code, states
    states[:] = ['needs']
    assert tool.main([GRAPHS, '--work-dir', str(tmp_path), '--allow-missing']) == 0


def test_without_mmaction2_the_message_says_what_to_install(tool, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert tool.main(['--list']) == 2
    assert 'MMAction2 is not installed. Install it' in capsys.readouterr().err


# ---- one config of each family -----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def examined(tmp_path_factory):
    """Rows of one config of each family, from one start of the command line."""
    folder = tmp_path_factory.mktemp('matrix')
    done = subprocess.run(
        [sys.executable, str(TOOL), '--families', '--jobs', '2', '--work-dir', str(folder), '--json',
         str(folder / 'rows.json'), '--out', str(folder / 'table.md')],
        capture_output=True, text=True, cwd=ROOT, env=dict(os.environ, OMP_NUM_THREADS='1'))
    assert (folder / 'rows.json').is_file(), done.stderr[-2000:]
    rows = json.loads((folder / 'rows.json').read_text())['rows']
    wrong = any(row['status'] == 'failed' for row in rows)
    assert done.returncode in ((1, ) if wrong else (0, 3))
    return {row['family']: row for row in rows}


@pytest.mark.slow
@pytest.mark.parametrize('family', FAMILIES)
def test_the_bare_line_keeps_every_promise_in_this_family(family, examined):
    row = examined[family]
    if row['status'] == 'needs':
        pytest.skip(row['reason'])
    assert row['status'] == 'passed', f'{row["name"]}: {row["reason"]}'
    assert set(row['cells']) == set(checks.COLUMNS)
