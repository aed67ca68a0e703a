"""The lower half works in plain PyTorch: no OpenMMLab package is there to be imported."""
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = textwrap.dedent("""
    import importlib.machinery
    import sys

    class NotInstalled:
        '''To import machinery and to importlib.util.find_spec these packages do not exist.'''
        names = ('mmaction', 'mmengine', 'mmcv')

        def __init__(self, finder):
            self.finder = finder

        def find_spec(self, name, path=None, target=None):
            if name.split('.')[0] in self.names:
                return None
            return self.finder.find_spec(name, path, target)

        def __getattr__(self, name):
            return getattr(self.finder, name)

    sys.meta_path[:] = [NotInstalled(f) if hasattr(f, 'find_spec') else f for f in sys.meta_path]
    import importlib.util
    assert importlib.util.find_spec('mmaction') is None and importlib.util.find_spec('torch') is not None
""")
USE = textwrap.dedent("""
    import torch
    from lsef_plugins.nn import LSEF
    x = torch.randn(2, 5, 7, 3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    lsef = LSEF(5)
    torch.nn.init.normal_(lsef.cim.out.weight)
    y, parts = lsef.run(x)
    assert y.shape == x.shape and (y - x).abs().max() > 0
    assert (parts.stable + parts.transient + parts.residual - x).abs().max() < 1e-5
    (y.square().mean() + sum(v.mean() for v in lsef.auxiliary(parts).values())).backward()
    assert x.grad.isfinite().all()
    import lsef_plugins, sys
    host = ('mmaction', 'mmengine', 'mmcv')
    print(lsef_plugins.__version__, sorted(m for m in sys.modules if m.split('.')[0] in host))
""")


def run(code):
    return subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_lsef_runs_and_learns_on_a_tensor():
    done = run(BLOCK + USE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split(maxsplit=1)[1].strip() == '[]'
