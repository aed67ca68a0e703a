"""ONNX files: the scores are those of PyTorch, for any number of clips, with a neck that does something."""
import importlib.util

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from host_families import Family

import lsef_plugins  # noqa: F401
from lsef_plugins.engine import export
from lsef_plugins.engine.export import INPUT, OUTPUT, export_onnx
from lsef_plugins.engine.launch import LaunchError
from lsef_plugins.nn.pooling import READINGS


@pytest.fixture(scope='module', autouse=True)
def scope():
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')


def awake(name, type='LSEFNeck', head=None):
    """A plugged recognizer whose neck has moved away from its identity start, with logits of order one."""
    family = Family(name)
    if head:
        family.with_head(type=head, read=READINGS)
    model = family.build(type and dict(type=type))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.neck.parameters() if type else []:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for module in model.cls_head.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.mul_(0.5 / module.weight.std() / module.in_features ** 0.5)
    return family, model


def run(path, inputs):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=['CPUExecutionProvider'])
    assert [value.name for value in session.get_inputs()] == [INPUT]
    return session.run([OUTPUT], {INPUT: inputs.numpy()})[0]


@pytest.fixture(scope='module', params=['tsn', 'slowonly', 'swin'])
def exported(request, tmp_path_factory):
    """A 2-D, a 3-D and a transformer family: the model, its inputs, its file."""
    torch.manual_seed(0)
    family, model = awake(request.param)
    model.train()
    inputs = family.batch(model)['inputs']
    path = tmp_path_factory.mktemp('onnx') / 'deep' / 'model.onnx'
    return family, model, inputs, path, export_onnx(model, inputs, str(path), scores='logits')


def logits(model, inputs):
    model.eval()
    with torch.no_grad():
        features, options = model.extract_feat(inputs, test_mode=True)
        return model.cls_head(features, **options).numpy()


def test_logits_are_those_of_pytorch_for_other_clips_and_any_number_of_them(exported):
    family, model, inputs, path, told = exported
    assert told.batch is None and told.difference < 1e-5
    for clips, seed in ((1, 1), (2, 2), (3, 3)):
        other = family.batch(model, clips=clips, seed=seed)['inputs']
        other[0, ..., 1:3, :, :] *= 20 if clips == 3 else 1
        expected = logits(model, other)
        np.testing.assert_allclose(run(path, other), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_neck_is_in_the_file(exported):
    """Without this law an identity would pass the one above."""
    family, model, inputs, path, _ = exported
    asleep = family.build(dict(type='LSEFNeck'))
    asleep.load_state_dict({**model.state_dict(), **{key: value for key, value in asleep.state_dict().items()
                                                     if key.startswith('neck.')}})
    assert np.abs(run(path, inputs) - logits(asleep, inputs)).max() > 1e-2


def test_the_file_is_whole_and_holds_one_small_loop(exported):
    *_, path, told = exported
    onnx.checker.check_model(str(path))
    graph = onnx.load(str(path)).graph
    loops = [node for node in graph.node if node.op_type == 'Loop']
    assert len(loops) == 1 and export._count_nodes(loops[0].attribute[0].g) < 50
    assert told.nodes == export._count_nodes(graph) < 800
    assert [entry.name for entry in path.parent.iterdir()] == ['model.onnx']


def test_a_clip_that_is_not_finite_touches_no_other(exported):
    _, _, inputs, path, _ = exported
    expected = run(path, inputs)
    broken = inputs.clone()
    broken[1, 0, ..., 0, 0] = float('nan')
    came = run(path, broken)
    views = len(came) // len(inputs)
    assert not np.isfinite(came[views]).all()
    np.testing.assert_allclose(came[:views], expected[:views], rtol=1e-4, atol=1e-4)


def test_the_recognizer_is_what_it_was(exported):
    """Last of its file: eval() was called above, so the flags are compared on a model of their own."""
    family, model = exported[:2]
    names = dict(model.named_modules())
    assert all(parameter.requires_grad for parameter in model.neck.parameters())
    assert not any('parametriz' in name or 'network' in name for name in names)
    assert model.neck.layout is not None and not model.neck._collected


@pytest.mark.slow
@pytest.mark.parametrize('name, neck, head', [
    ('slowonly', None, 'LSEFHead'), ('videomae', 'LSEFNeck', 'LSEFHead'),       # at its entrance; listens in a backbone
    ('videomae', 'SEM', None), ('videomae', 'DDM', None), ('videomae', 'CIM', None)])
def test_our_head_and_each_part_alone_score_in_a_file_as_in_pytorch(name, neck, head, tmp_path):
    torch.manual_seed(0)
    family, model = awake(name, neck, head)
    told = export_onnx(model, family.batch(model)['inputs'], str(tmp_path / 'm.onnx'), scores='logits')
    # A value that the runtime rounds to zero, or away from it, moves the median of those that are not by a rank.
    assert told.batch is None and told.difference < 1e-4
    other = family.batch(model, clips=3, seed=3)['inputs']
    other[0, ..., 1:3, :, :] *= 20
    expected = logits(model, other)
    came = run(tmp_path / 'm.onnx', other)
    np.testing.assert_allclose(came, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    # Without this law a file that has lost neck or head would pass.
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for prefix in ('neck', 'cls_head.poolings')[not neck:1 + bool(head)]:
            for parameter in model.get_submodule(prefix).parameters():
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
            changed = logits(model, other)
            assert np.abs(changed - expected).max() > 1e-3 * np.abs(expected).max()
            expected = changed


@pytest.fixture(scope='module')
def small():
    """A stub of a recognizer, exported in a second: what does not depend on the network is told here."""
    from mmaction.models.heads import BaseHead
    from mmaction.models.recognizers import Recognizer3D

    class Head(BaseHead):

        def forward(self, x, **kwargs):
            return self.fc(x.mean((2, 3, 4)))

    def build(average_clips='prob', test_cfg=None):
        torch.manual_seed(0)
        model = Recognizer3D.__new__(Recognizer3D)
        torch.nn.Module.__init__(model)
        model.backbone = torch.nn.Sequential(torch.nn.Conv3d(3, 4, 1), torch.nn.BatchNorm3d(4), torch.nn.ReLU())
        model.cls_head = Head(5, 4, average_clips=average_clips)
        model.cls_head.fc = torch.nn.Linear(4, 5)
        model.train_cfg, model.test_cfg = None, test_cfg
        return model.train()

    return build


X = torch.randn(2, 3, 3, 4, 5, 5, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize('average_clips', ['prob', 'score', None])
def test_scores_are_those_of_predict_over_several_views(average_clips, small, tmp_path):
    from mmaction.structures import ActionDataSample
    model = small(average_clips)
    told = export_onnx(model, X, str(tmp_path / 'm.onnx'))
    model.eval()
    with torch.no_grad():
        samples = model(X[:1], [ActionDataSample()], mode='predict')
    np.testing.assert_allclose(run(tmp_path / 'm.onnx', X[:1])[0], samples[0].pred_score.numpy(), atol=1e-5)
    assert told.difference < 1e-5


def test_training_flags_and_settings_come_back_also_after_an_error(small, tmp_path, monkeypatch):
    model = small(test_cfg=dict(max_testing_views=2))
    model.backbone[1].eval()
    flags = [module.training for module in model.modules()]
    export_onnx(model, X, str(tmp_path / 'm.onnx'))         # two clips, which max_testing_views alone would refuse
    assert [module.training for module in model.modules()] == flags and model.test_cfg == dict(max_testing_views=2)
    monkeypatch.setattr(export, '_program', lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        export_onnx(model, X, str(tmp_path / 'n.onnx'))
    assert [module.training for module in model.modules()] == flags and model.test_cfg == dict(max_testing_views=2)
    assert [entry.name for entry in tmp_path.iterdir()] == ['m.onnx']


def test_a_fixed_number_of_clips_is_told(small, tmp_path):
    told = export_onnx(small(), X, str(tmp_path / 'm.onnx'), dynamic_batch=False)
    assert told.batch == 2
    with pytest.raises(Exception, match='Got: 1 Expected: 2'):
        run(tmp_path / 'm.onnx', X[:1])


def test_a_file_that_differs_is_not_written(small, tmp_path, monkeypatch):
    model, old = small(), tmp_path / 'm.onnx'
    old.write_bytes(b'what was there')
    stock = export._program

    def wrong(network, *args):
        made = stock(network, *args)
        head = network.recognizer.cls_head
        head.fc.bias = torch.nn.Parameter(head.fc.bias + torch.linspace(0, 0.5, 5))
        return made

    monkeypatch.setattr(export, '_program', wrong)
    with pytest.raises(LaunchError, match=r'differ from those of PyTorch by 0\.\d+, more than 0.0001, with 2 clips'):
        export_onnx(model, X, str(old))
    assert old.read_bytes() == b'what was there' and len(list(tmp_path.iterdir())) == 1


def test_scores_drawn_at_random_are_told(small, tmp_path):
    model = small()
    model.cls_head.forward = lambda x, **kwargs: model.cls_head.fc(x.mean((2, 3, 4))) + np.random.rand()
    model.cls_head.average_clips = 'score'
    with pytest.raises(LaunchError, match='of this Head are drawn at random anew in each call'):
        export_onnx(model, X, str(tmp_path / 'm.onnx'))


def test_a_head_whose_predict_does_more_is_told(small, tmp_path):
    model = small()
    model.cls_head.average_clip = lambda scores, num_segs: scores
    stock = model.cls_head.predict_by_feat

    def predict_by_feat(scores, samples):
        for sample in samples:
            sample.set_pred_score(torch.ones(2))
        return samples

    model.cls_head.predict_by_feat = predict_by_feat
    with pytest.raises(LaunchError, match=r"are \(6, 5\), those of PyTorch \(2, 2\).*Export scores='logits'"):
        export_onnx(model, X, str(tmp_path / 'm.onnx'))
    assert stock and not list(tmp_path.iterdir())


def test_without_onnxruntime_it_is_written_with_a_warning(small, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'onnxruntime' else find(name, *a))
    with pytest.warns(UserWarning, match='without comparing its scores.*pip install onnxruntime'):
        assert export_onnx(small(), X, str(tmp_path / 'm.onnx')).difference is None
    assert (tmp_path / 'm.onnx').stat().st_size > 100


@pytest.mark.parametrize('missing', ['onnx', 'onnxscript'])
def test_packages_that_are_missing_are_named_with_the_line_that_installs_them(missing, small, tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == missing else find(name, *a))
    with pytest.raises(LaunchError, match=f'needs {missing}: pip install onnx onnxscript onnxruntime'):
        export_onnx(small(), X, str(tmp_path / 'm.onnx'))


def test_a_torch_without_the_exporter_is_told(small, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.onnx, 'export', lambda model, args, f: None)
    with pytest.raises(LaunchError, match='torch 2.6 or newer.*Export in an environment with a newer torch'):
        export_onnx(small(), X, str(tmp_path / 'm.onnx'))


@pytest.mark.parametrize('inputs, options, message', [
    (dict(imgs=X), {}, 'recognizers of one tensor.*got dict.*data_preprocessor'),
    (X[:0], {}, r'b >= 1.*got \(0, 3, 3, 4, 5, 5\)'),
    (X, dict(scores='probs'), "scores 'probs' is unknown; choose one of predict, logits")])
def test_what_cannot_be_exported_is_told(inputs, options, message, small, tmp_path):
    with pytest.raises(LaunchError, match=message):
        export_onnx(small(), inputs, str(tmp_path / 'm.onnx'), **options)


def test_heads_of_several_scores_are_told(small, tmp_path):
    model = small()
    model.cls_head.forward = lambda x, **kwargs: dict(rgb=x)
    with pytest.raises(LaunchError, match='head of this Recognizer3D gives dict instead of one tensor'):
        export_onnx(model, X, str(tmp_path / 'm.onnx'))
