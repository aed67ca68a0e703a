"""LSEF inside a model of one's own: ``torch.onnx.export`` alone writes it, for any number of clips."""
import numpy as np
import onnxruntime
import pytest
import torch

from lsef_plugins.nn import LSEF


@pytest.fixture(scope='module')
def layer():
    layer = LSEF(3).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return layer


@pytest.fixture(scope='module')
def run(layer, tmp_path_factory):
    path = tmp_path_factory.mktemp('onnx') / 'layer.onnx'
    torch.onnx.export(layer, (clips(2), ), dynamo=True, dynamic_shapes=({0: torch.export.Dim.DYNAMIC}, ),
                      input_names=['x'], verbose=False).save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    return lambda x: session.run(None, {'x': x.numpy()})[0]


def clips(number, seed=0):
    return torch.randn(number, 3, 5, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_features_of_any_scale_are_those_of_pytorch(layer, run):
    x = clips(6, seed=1)
    x[0, :, 3] *= 1e3                           # one bad frame
    x[1] = x[1, :, :1]                          # a constant clip
    x[2] = 0
    x[3] *= 1e-20
    x[4] *= 1e18
    with torch.no_grad():
        expected = layer(x)
    assert (expected[5] - x[5]).abs().max() > 0.1
    scale = expected.abs().amax((1, 2, 3, 4), keepdim=True).clamp_min(1e-30)
    np.testing.assert_allclose(run(x) / scale.numpy(), (expected / scale).numpy(), atol=1e-4)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_clip_that_is_not_finite_passes_unchanged_and_touches_no_other(value, run):
    x = clips(3)
    expected = run(x)
    x[1, 2, 3, 1, 1] = value
    came = run(x)
    np.testing.assert_array_equal(came[1], x[1].numpy())
    np.testing.assert_allclose(came[[0, 2]], expected[[0, 2]], rtol=1e-6)
