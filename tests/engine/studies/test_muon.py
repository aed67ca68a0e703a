"""A rival that is Muon."""
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.optimizer_study import design
from lsef_plugins.engine.studies import muon


@pytest.mark.parametrize('kind', [muon.MuonAndAdamW, muon.MuonAndSGD])
def test_our_muon_is_torchs_muon(kind):
    """On matrices, in torch's own scaling; torch works in bfloat16 inside."""
    if not hasattr(torch.optim, 'Muon'):
        pytest.fail('this torch has no Muon to compare with; install a newer one for the tests')
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    a = kind([dict(params=[ours], muon=True)], lr=0.1, weight_decay=0.02)
    b = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.02, adjust_lr_fn='match_rms_adamw')
    for _ in range(4):
        ours.grad = torch.randn(12, 20, generator=generator)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    assert (ours - theirs).norm() < 0.03 * (ours - 1).norm()
    assert torch.linalg.svdvals(muon.polar(torch.randn(9, 5, generator=generator))).sub(0.95).abs().max() < 0.35


@pytest.mark.parametrize('name', ['muon', 'muon-sgd'])
def test_muon_leaves_the_rest_to_the_other_optimizer(name):
    init_default_scope('mmaction')
    from host_families import Family
    model = Family('slowonly').build(dict(type='LSEFNeck'))
    wrapper = build_optim_wrapper(model, design.ARMS[name].optim_wrapper(0.01))
    orthogonal, rest = wrapper.optimizer.param_groups
    assert sum(p.numel() for group in (orthogonal, rest) for p in group['params']) == sum(
        p.numel() for p in model.parameters())
    assert model.cls_head.fc_cls.weight in set(rest['params']) and all(p.ndim > 1 for p in orthogonal['params'])
    twin = nn.Parameter(model.cls_head.fc_cls.weight.detach().clone())
    other = (torch.optim.AdamW([twin], lr=0.01, weight_decay=0.02) if name == 'muon' else
             torch.optim.SGD([twin], lr=0.2, momentum=0.9, weight_decay=1e-4))
    for _ in range(2):
        for p in [*model.parameters(), twin]:
            p.grad = torch.full_like(p, 1e-4)
        wrapper.step()
        other.step()
    assert torch.equal(model.cls_head.fc_cls.weight, twin) and len(wrapper.optimizer.param_groups) == 2


def test_a_classifier_may_have_a_rate_of_its_own():
    init_default_scope('mmaction')
    from host_families import Family
    model = Family('slowonly').build(dict(type='LSEFNeck'))
    wrapper = build_optim_wrapper(model, dict(constructor='MuonConstructor', classifier=dict(lr=0.5),
                                              optimizer=dict(type='MuonAndAdamW', lr=0.01)))
    orthogonal, rest, last = wrapper.optimizer.param_groups
    assert set(last['params']) == set(model.cls_head.fc_cls.parameters()) and last['lr'] == 0.5 and not last['muon']
    assert rest['lr'] == orthogonal['lr'] == 0.01 and orthogonal['muon']
    assert sum(len(group['params']) for group in (orthogonal, rest, last)) == len(list(model.parameters()))
