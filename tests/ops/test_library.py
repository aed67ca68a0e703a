"""What computes is chosen in one place, can be asked for, and is told of where it costs the user something."""
import os
import subprocess
import sys
import warnings

import pytest
import torch
from torch.autograd import forward_ad

from lsef_plugins import ops
from lsef_plugins.ops import builder as build
from lsef_plugins.ops import exporting
from lsef_plugins.ops import library as state


def run(code, **environment):
    """A process of its own, because a library is loaded once and for all."""
    keep = {k: v for k, v in os.environ.items() if not k.startswith('LSEF_')}
    return subprocess.run([sys.executable, '-W', 'always', '-c', code], capture_output=True, text=True,
                          env={**keep, 'LSEF_PLUGINS_REGISTER': '0', **environment})


TELL = 'from lsef_plugins import ops; s = ops.status(); print(s["library"], "|", s["reason"], "|", s["devices"])'
X = torch.zeros(1, 2, 4, 3)


def test_status_names_the_library_and_what_it_runs_on(library):
    assert library['reason'] is None and 'cpu' in library['devices']
    assert library['instruction_set'] in ('x86-64-v4', 'x86-64-v3', 'baseline')


def test_switched_off_it_is_not_even_looked_for():
    done = run(TELL, LSEF_OPS='off', LSEF_OPS_LIBRARY='/nowhere/lsef_ops.so')
    assert done.stdout.strip() == 'None | switched off by LSEF_OPS=off | ()' and done.stderr == ''


def test_a_missing_library_is_no_noise_but_says_how_to_build_it():
    done = run(TELL, LSEF_OPS_LIBRARY='/nowhere/lsef_ops.so')
    assert 'None | /nowhere/lsef_ops.so does not exist; build it with: ' + build.COMMAND in done.stdout
    assert done.stderr == '' and done.returncode == 0


def test_a_required_library_that_is_missing_stops_the_import():
    done = run(TELL, LSEF_OPS='required', LSEF_OPS_LIBRARY='/nowhere/lsef_ops.so')
    assert done.returncode and 'ImportError: LSEF_OPS=required, but the compiled operators cannot' in done.stderr


def test_an_unknown_word_stops_the_import():
    done = run(TELL, LSEF_OPS='on')
    assert done.returncode and 'LSEF_OPS=on is unknown; set it to auto, off, required' in done.stderr


@pytest.mark.parametrize('content, problem', [
    (b'no library', 'was built from other sources'),
    (b'lsef sources 0123456789abcdef ', 'was built from other sources'),
    (f'lsef sources {build.source_hash()} '.encode(), 'does not load into this torch')],
    ids=('other', 'stale', 'broken'))
def test_a_library_that_does_not_fit_is_told_of_and_never_called(tmp_path, content, problem):
    path = tmp_path / 'lsef_ops.so'
    path.write_bytes(content)
    done = run(TELL + '; import torch; print(ops.gram(torch.ones(1, 1, 2, 3)).tolist())', LSEF_OPS_LIBRARY=str(path))
    assert done.returncode == 0 and 'None | ' in done.stdout and '[[[3.0, 3.0], [3.0, 3.0]]]' in done.stdout
    assert problem in done.stderr and build.COMMAND in done.stderr and done.stderr.count('UserWarning') == 1


def test_a_library_that_wants_a_later_torch_is_told_of_once_and_the_formulas_compute(tmp_path):
    """torch was replaced by one that lacks a symbol of the library, which is of the right sources."""
    try:
        compiler = build.find_compiler()
    except build.BuildError as error:
        pytest.skip(str(error))
    (tmp_path / 'later.cpp').write_text(
        'extern "C" int aoti_torch_of_a_later_release();\n'
        f'extern "C" const char lsef_sources[] = "lsef sources {build.source_hash()} ";\n'
        'extern "C" int lsef_ask() { return aoti_torch_of_a_later_release(); }\n')
    path = tmp_path / 'lsef_ops.so'
    subprocess.run([compiler, '-shared', '-fPIC', '-o', str(path), str(tmp_path / 'later.cpp')], check=True)
    done = run(TELL + '; import torch; print(ops.gram(torch.ones(1, 1, 2, 3)).tolist()); '
               'from lsef_plugins.nn import LSEF; LSEF(4)(torch.ones(1, 4, 6, 2, 2))', LSEF_OPS_LIBRARY=str(path))
    assert done.returncode == 0 and '[[[3.0, 3.0], [3.0, 3.0]]]' in done.stdout, done.stderr
    assert done.stderr.count('UserWarning: lsef_plugins computes in plain PyTorch') == 1
    assert 'undefined symbol: aoti_torch_of_a_later_release' in done.stderr and build.COMMAND in done.stderr


def test_of_many_processes_one_tells(tmp_path):
    (tmp_path / 'lsef_ops.so').write_bytes(b'no library')
    told = [run(TELL, LSEF_OPS_LIBRARY=str(tmp_path / 'lsef_ops.so'), RANK=rank).stderr for rank in '01']
    assert told[0].count('UserWarning') == 1 and told[1] == ''


def test_the_package_can_be_imported_anew(library):
    again = 'import sys, lsef_plugins.ops; [sys.modules.pop(k) for k in list(sys.modules) if "lsef_plugins" in k]; '
    done = run(again + TELL + '; import torch; print(ops.gram(torch.ones(1, 1, 2, 3)).sum().item())',
               LSEF_OPS_LIBRARY=library['library'], LSEF_OPS='required')
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == '12.0', done.stderr


def test_loading_twice_changes_nothing(library):
    assert ops.load() == ops.load(library['library']) == ops.status()


def test_a_backend_is_given_back_whatever_happens(library):
    with pytest.raises(KeyError), ops.backend('reference'):
        assert not ops.serves(X)
        with ops.backend('compiled'):
            assert ops.serves(X)
        assert not ops.serves(X)
        raise KeyError
    assert ops.serves(X)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ValueError, match='choose one of auto, reference, compiled'), ops.backend('cuda'):
        pass


def test_the_compiled_backend_wants_a_library(monkeypatch):
    monkeypatch.setattr(state, '_library', None)
    monkeypatch.setattr(state, '_reason', 'it was never built')
    with pytest.raises(RuntimeError, match='it was never built'), ops.backend('compiled'):
        pass


@pytest.mark.parametrize('x, exponent', [
    (X, 1.5), (X.to(torch.complex64), 2.0), (torch.zeros(1, 2, 65, 3), 2.0), (X.to('meta'), 2.0)], ids=str)
def test_what_the_library_does_not_know_is_left_to_the_formula(library, x, exponent):
    assert ops.serves(X) and not ops.serves(x, exponent)


def test_what_leaves_the_process_holds_no_operator_of_ours(library, monkeypatch):
    with exporting.plain_operations():
        assert not ops.serves(X)
    with monkeypatch.context() as patch:
        patch.setattr(torch.jit, 'is_tracing', lambda: True)
        assert not ops.serves(X)
    assert ops.serves(X)


def test_an_exported_program_is_made_of_torchs_operators(library):
    class Model(torch.nn.Module):
        def forward(self, x):
            operator = torch.eye(4).expand(2, 4, 4) / 2
            found = ops.low_rank_sparse(x, operator, ops.residual_scale(x, operator), outputs=('transient', ))
            return found.transient + ops.gram(x).sum()

    program = torch.export.export(Model(), (torch.randn(2, 3, 4, 5), ))
    assert 'lsef' not in str(program.graph)
    x = torch.randn(2, 3, 4, 5)
    torch.testing.assert_close(program.module()(x), Model()(x))


def test_a_gpu_without_kernels_is_told_of_once_by_the_first_rank(monkeypatch):
    gpu = type('Features', (), dict(device=torch.device('cuda'), dtype=torch.float32, shape=(1, 2, 4, 3)))()
    monkeypatch.setattr(state, '_devices', ('cpu', ))
    monkeypatch.setattr(state, '_reason', '')
    monkeypatch.delenv('LSEF_OPS', raising=False)
    for rank, expected in (('1', 0), ('0', 1)):
        monkeypatch.setenv('RANK', rank)
        monkeypatch.setattr(state, '_told_device', False)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            assert not state.serves(gpu) and not state.serves(gpu)
        assert len(caught) == expected
    assert 'without CUDA' in str(caught[0].message)


@pytest.mark.parametrize('call', [ops.gram, lambda x: ops.soft_threshold(x, torch.tensor(0.1)),
                                  lambda x: ops.frame_shrink(x, torch.tensor(0.1))[0]], ids=('gram', 'soft', 'frame'))
def test_a_derivative_taken_forward_is_refused_and_not_zero(library, call):
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    with forward_ad.dual_level():
        assert not ops.serves(x)
        with pytest.raises(NotImplementedError, match='jvp'):
            call(forward_ad.make_dual(x, torch.ones_like(x)))
    with pytest.raises(RuntimeError, match='functorch'):
        torch.func.jvp(call, (x, ), (torch.ones_like(x), ))
    assert ops.serves(x)


def products(x, operator, square):
    """Everything that multiplies over time, and a gradient through it."""
    found = [ops.gram(x), ops.low_rank_sparse(x, operator, torch.tensor(0.1), outputs=('stable', )).stable,
             ops.residual_scale(x, operator), ops.scale_shrink(x, torch.tensor(0.1), (3, ))[0],
             ops.frame_norms(x, (3, )), ops.frame_shrink(x, torch.tensor(0.1), (3, ))[0],
             *ops.frame_repair(square), ops.isolation(operator, square)]
    # The backward pass is inside autocast, too.
    return [*found, *torch.autograd.grad(found[0].square().sum() + found[1].square().sum(), x)]


def test_autocast_rounds_no_operator(computed_by):
    generator = torch.Generator().manual_seed(0)
    x, operator = torch.randn(2, 3, 6, 5, generator=generator), torch.randn(2, 6, 6, generator=generator)
    x.requires_grad_()
    # A Gram with an outlying frame, or there is nothing to repair.
    frames = torch.randn(2, 6, 6, generator=generator) * torch.tensor([1, 1, 8, 1, 1, 1])[:, None]
    square = frames @ frames.mT
    expected = products(x, operator, square)
    with torch.autocast('cpu', torch.bfloat16):
        found = products(x, operator, square)
    for ours, theirs in zip(found, expected):
        assert ours.dtype == torch.float32 and torch.equal(ours, theirs)


def test_a_path_that_is_no_file_is_told_of(tmp_path):
    done = run(TELL, LSEF_OPS_LIBRARY=str(tmp_path))
    assert done.returncode == 0 and 'None | ' in done.stdout and 'cannot be read' in done.stderr


def test_sources_that_are_gone_are_told_of(tmp_path):
    (tmp_path / 'lsef_ops.so').write_bytes(b'lsef sources 0123456789abcdef ')
    gone = (f'from pathlib import Path; import runpy, sys; sys.path.insert(0, {str(build.HERE.parents[1])!r})\n'
            f'real = Path.iterdir\n'
            f'def iterdir(path):\n'
            f'    if path.name == "csrc": raise FileNotFoundError("csrc")\n'
            f'    return real(path)\n'
            f'Path.iterdir = iterdir\n')
    done = run(gone + TELL, LSEF_OPS_LIBRARY=str(tmp_path / 'lsef_ops.so'))
    assert done.returncode == 0 and 'None | ' in done.stdout and 'cannot be read (csrc)' in done.stderr


@pytest.mark.parametrize('call', [
    ops.residual_scale, lambda x, operator: ops.gram(x, operator, torch.tensor(0.1)),
    lambda x, operator: ops.low_rank_sparse(x, operator, torch.tensor(0.1))], ids=('scale', 'gram', 'low_rank_sparse'))
@pytest.mark.parametrize('x, operator, message', [
    (torch.ones(3, 4, 5), torch.ones(3, 4, 4), 'features .b, c, t, n., got torch.float32 .3, 4, 5.; flatten.3.'),
    (torch.ones(2, 3, 4, 5).int(), torch.ones(2, 4, 4), 'takes floating features .* got torch.int32'),
    (torch.ones(2, 3, 4, 5), torch.ones(1, 4, 4), 'operator .1, 4, 4. must be one matrix .* = .2, 4, 4.'),
    (torch.ones(2, 3, 4, 5), torch.ones(2, 5, 5), 'operator .2, 5, 5. must be')],
    ids=('axes', 'int', 'clips', 'frames'))
def test_shapes_that_do_not_belong_together_are_named_alike_by_all_ways(computed_by, call, x, operator, message):
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        call(x, operator)
