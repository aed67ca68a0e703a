"""What a neck separated arrives in the sample it belongs to, view by view, and nothing is left behind."""
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from host_families import Family
from mmengine.registry import init_default_scope

import lsef_plugins.nn
from lsef_plugins.engine.hooks import DecompositionTapHook
from lsef_plugins.evaluation.functional import base_drift, span_basis


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmaction')


def predict(model, batch, hook=None, data_batch=None):
    """One batch of a validation without a runner."""
    hook = hook or DecompositionTapHook()
    model.eval()
    runner = SimpleNamespace(model=model)
    hook.before_val_epoch(runner)
    hook.before_val_iter(runner, 0, data_batch or batch)
    try:
        with torch.no_grad():
            return model(**batch, mode='predict')
    finally:
        hook.after_val_epoch(runner)


def caught_by(model):
    caught = []
    model.neck.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    return caught


def expected(stream, x):
    parts = stream.decompose(x)
    names = ('stable', 'transient', 'residual')
    energy = {name: getattr(parts, name).double().square().sum((1, 3, 4)) for name in names}
    mean = x.double().square().sum((1, 3, 4)).mean(1, keepdim=True)
    return parts, {name: (value / mean).detach() for name, value in energy.items()}


@pytest.mark.parametrize('name, views', [('slowonly', 6), ('tsm', 3), ('videomae', 6)])
def test_each_sample_has_its_own_views_in_order(name, views):
    family = Family(name)
    model = family.build(dict(type='LSEFNeck'))
    caught = caught_by(model)
    samples = predict(model, family.batch(model, clips=2, crops=3))
    parts, energy = expected(model.neck.streams[0], caught[0])
    assert len(caught) == 1 and len(caught[0]) == 2 * views
    for index, sample in enumerate(samples):
        mine, found = slice(index * views, (index + 1) * views), sample.decomposition['neck']
        for key, value in energy.items():
            np.testing.assert_allclose(found[key], value[mine], rtol=1e-4, atol=1e-7)
        np.testing.assert_allclose(found['frame_gate'], parts.frame_gate[mine].detach(), atol=1e-6)
        for view, curves in enumerate(found['curves']):
            rows = parts.stable[mine][view].transpose(0, 1).flatten(1).detach().double().numpy()
            left = np.linalg.svd(rows)[0][:, :span_basis(curves).shape[1]]
            basis = span_basis(curves)
            np.testing.assert_allclose(basis @ basis.T, left @ left.T, atol=1e-3)
        assert 'pred_score' in sample, 'the prediction is there as well'


@pytest.mark.parametrize('name, calls', [('slowonly', 1), ('videomae', 3)])
def test_views_that_are_tested_a_few_at_a_time_are_the_same_views(name, calls):
    """Behind the backbone they are together again; a neck inside of it is called for a few at a time."""
    family = Family(name)
    family.config.test_cfg = dict(max_testing_views=4)
    model = family.build(dict(type='LSEFNeck'))
    batch, caught = family.batch(model, clips=1, crops=5), caught_by(model)
    few = predict(model, batch)[0].decomposition['neck']
    assert len(caught) == calls
    model.test_cfg = None
    whole = predict(model, family.batch(model, clips=1, crops=5))[0].decomposition['neck']
    assert len(whole['stable']) == 10
    for name in ('stable', 'transient', 'frame_gate'):
        np.testing.assert_allclose(few[name], whole[name], rtol=1e-4, atol=1e-7)


def test_several_maps_and_a_head_are_several_places_each_with_its_own_frames():
    family = Family('slowfast').with_head(type='LSEFHead')
    family.config.cls_head.in_channels = [2048, 256]
    model = family.build(dict(type='LSEFNeck'))
    found = predict(model, family.batch(model))[0].decomposition
    assert sorted(found) == ['cls_head.0', 'cls_head.1', 'neck.0', 'neck.1']
    assert found['neck.0']['stable'].shape[1] == 4 and found['neck.1']['stable'].shape[1] == 32


@pytest.mark.parametrize('neck, zero', [('SEM', 'transient'), (dict(type='LSEFNeck', sem=False), 'stable')])
def test_a_part_that_is_switched_off_has_no_energy(neck, zero):
    family = Family('slowonly')
    model = family.build(dict(type=neck) if isinstance(neck, str) else neck)
    found = predict(model, family.batch(model))[0].decomposition['neck']
    assert not found[zero].any() and found['residual'].any()
    assert zero == 'transient' or (not found['curves'].any() and not found['frame_gate'].any())


def test_the_drift_of_twins_is_that_of_their_stable_parts_and_features():
    family = Family('slowonly')
    model, generator = family.build(dict(type='LSEFNeck')), torch.Generator().manual_seed(0)
    raw = family.raw_batch(clips=2, crops=4)                            # 8 views: 2 crops x (2 clean, 2 twins)
    for inputs in raw['inputs']:
        for crop in (0, 4):
            noise = torch.randint(0, 60, inputs[:1].shape, generator=generator, dtype=torch.uint8)
            inputs[crop + 2] = inputs[crop]                             # an identical twin
            inputs[crop + 3] = inputs[crop + 1] // 2 + noise[0]
    raw['data_samples'][0].set_metainfo(dict(clean_clips=2))
    caught, batch = caught_by(model), model.data_preprocessor(raw, False)
    samples = predict(model, batch)
    found = samples[0].decomposition['neck']
    stable = model.neck.streams[0].decompose(caught[0]).stable.detach()
    pairs = [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert found['stable_drift'] == pytest.approx([base_drift(stable[a], stable[b]) for a, b in pairs], abs=1e-9)
    assert found['feature_drift'] == pytest.approx([base_drift(caught[0][a], caught[0][b]) for a, b in pairs], abs=1e-9)
    assert found['stable_drift'][[0, 2]] == pytest.approx([0, 0], abs=1e-9) and found['stable_drift'][1] > 1e-4
    assert 'stable_drift' not in samples[1].decomposition['neck'], 'it has no twins'


def test_twins_that_came_as_one_view_are_told():
    family = Family('slowonly')
    model, raw = family.build(dict(type='LSEFNeck')), family.raw_batch(clips=1)
    raw['data_samples'][0].set_metainfo(dict(clean_clips=2))
    with pytest.raises(ValueError, match=r'2 clean clip\(s\) and as many twins came as 2 view.*num_segments'):
        predict(model, model.data_preprocessor(raw, False))


def test_nothing_is_left_in_the_model_and_predictions_are_the_same():
    family = Family('slowonly')
    model = family.build(dict(type='LSEFNeck'))
    before = family.scores(model)
    hooks = sum(len(module._forward_hooks) for module in model.modules())
    samples = predict(model, family.batch(model))
    assert torch.equal(torch.stack([sample.pred_score for sample in samples]), before)
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks
    hook = DecompositionTapHook()
    hook.before_val_epoch(SimpleNamespace(model=model))                 # an error ends this validation
    hook.before_train_epoch(SimpleNamespace(model=model))
    assert sum(len(module._forward_hooks) for module in model.modules()) == hooks
    assert not hook._heard


def test_a_model_without_decomposition_is_refused():
    family = Family('slowonly')
    for neck in (None, dict(type='CIM')):
        with pytest.raises(ValueError, match="finds no decomposition in this model.*type='LSEFNeck'"):
            DecompositionTapHook().before_test_epoch(SimpleNamespace(model=family.build(neck)))


def test_a_place_that_was_not_heard_is_told():
    family = Family('slowonly')
    model = family.build(dict(type='LSEFNeck'))
    model.neck.streams[0].run = lambda x: (x, None)                     # goes past both, as a graph does
    with pytest.raises(ValueError, match='heard nothing of neck in a predicted batch.*torch.compile'):
        predict(model, family.batch(model))


def test_clips_that_cannot_be_shared_out_are_told():
    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lsef = lsef_plugins.nn.LSEF(2)

        def forward(self, inputs, data_samples, mode):
            self.lsef(torch.randn(3, 2, 8, 1, 1))
            return data_samples

    with pytest.raises(ValueError, match='lsef separated 3 clips for 2 samples'):
        predict(Odd(), dict(inputs=None, data_samples=Family('slowonly').raw_batch()['data_samples']))
