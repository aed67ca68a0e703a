"""torch.compile of plugged recognizers: one graph, the same figures, and no compiling anew from step to step."""
import pytest
import torch

from lsef_plugins.nn import LSEF

NECK = dict(type='LSEFNeck', aux_loss=dict(rank=0.5))
# A 2-D, a 3-D, a transformer and a skeleton family. Both backends trace in full, the second the backward as well;
# inductor takes minutes to compile its kernels on a CPU.
BACKENDS = dict(tsn='eager', slowonly='aot_eager', swin='eager', stgcn='aot_eager')


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def plugged(make_family, wake):
    """Awake, and without chance: a compiled graph draws other random numbers than eager mode."""

    def build(name):
        family = make_family(name)
        model = wake(family.build(NECK))
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, 'drop_prob'):
                module.drop_prob = 0.0
        return family, model

    return build


@pytest.fixture
def without_accuracy(monkeypatch):
    """The host computes the accuracy of a training batch with numpy: it alone breaks the graph, plugged or not."""
    monkeypatch.setattr('mmaction.models.heads.base.top_k_accuracy', lambda scores, labels, topk: [0.0] * len(topk))


def trained(model, forward, data):
    model.train().zero_grad()
    losses = forward(**data, mode='loss')
    model.parse_losses(losses)[0].backward()
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    return {name: value.detach().clone() for name, value in losses.items()}, gradients


def predicted(model, forward, data):
    model.eval()
    with torch.no_grad():
        return torch.stack([sample.pred_score for sample in forward(**data, mode='predict')])


@pytest.mark.parametrize('name, backend', BACKENDS.items())
def test_training_and_testing_are_one_graph_each_with_the_figures_of_eager_mode(name, backend, plugged,
                                                                                without_accuracy):
    family, model = plugged(name)
    batch, views = family.batch(model, training=True), family.batch(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    losses, gradients = trained(model, model, batch)
    model.load_state_dict(state)
    scores = predicted(model, model, views)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    for step in range(3):
        # From the second step on nothing is compiled anew, although training and testing take turns.
        with torch._dynamo.config.patch(error_on_recompile=step > 0):
            model.load_state_dict(state)
            torch.testing.assert_close(predicted(model, compiled, views), scores, rtol=1e-4, atol=1e-5)
            came, slopes = trained(model, compiled, batch)
        assert set(came) == set(losses) and {'lsef/rank', 'loss_lsef_rank'} <= set(came)
        torch.testing.assert_close(came, losses, rtol=1e-4, atol=1e-5)
        assert set(slopes) == set(gradients)
        for key, slope in slopes.items():
            close = dict(rtol=1e-3, atol=1e-4 * float(gradients[key].abs().max()))
            torch.testing.assert_close(slope, gradients[key], **close)


def test_clips_that_are_not_finite_are_isolated_when_compiled():
    """A compiled graph cannot raise; nor does a broken clip touch the others."""
    layer = LSEF(4).eval()
    with torch.no_grad():
        layer.cim.out.weight.add_(0.3)
    x = torch.randn(3, 4, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    expected = layer(x).detach()
    x[1, 2, 3, 1, 1] = float('nan')
    with pytest.raises(ValueError, match='clips entering LSEF hold NaN or Inf'):
        layer(x)
    with torch.no_grad():
        came = torch.compile(layer, backend='eager', fullgraph=True)(x)
    assert torch.equal(came[1].nan_to_num(), x[1].nan_to_num())
    torch.testing.assert_close(came[[0, 2]], expected[[0, 2]])


def test_mmengine_trains_a_plugged_recognizer_compiled(tiny_config, tmp_path):
    """``cfg.compile`` compiles train_step, where the host breaks the graph at several places."""
    from mmengine.runner import Runner
    weights = {}
    for name, options in (('eager', {}), ('compiled', dict(compile=dict(backend='eager')))):
        cfg = tiny_config(tmp_path / name, model=dict(neck=NECK), train_cfg=dict(max_epochs=1), **options)
        cfg.model.cls_head.dropout_ratio = 0.0
        cfg.train_dataloader.dataset.indices = 4
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        cfg.experiment_name = f'{tmp_path.name}_{name}'
        runner = Runner.from_cfg(cfg)
        runner.train()
        weights[name] = runner.model.state_dict()
    assert weights['eager']['neck.streams.0.cim.out.weight'].abs().max() > 0
    torch.testing.assert_close(weights['compiled'], weights['eager'], rtol=1e-3, atol=1e-4)
