"""The command line: a checkpoint becomes a file with the scores of testing; what is wrong is told in a sentence."""
import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import lsef_plugins  # noqa: F401

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'export_onnx.py'


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('tool_export_onnx', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def trained(tmp_path_factory, tiny_config):
    """A config file, weights of it, and the model; files with a neck are read in tests/engine/test_export.py."""
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    folder = tmp_path_factory.mktemp('export')
    cfg = tiny_config(folder / 'work')
    cfg.dump(str(folder / 'config.py'))
    init_default_scope('mmaction')
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).eval()
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'weights.pth')
    return folder / 'config.py', folder / 'weights.pth', model


def test_the_file_gives_the_scores_of_testing(trained, tool, tmp_path, capsys):
    from mmaction.structures import ActionDataSample
    config, weights, model = trained
    out = tmp_path / 'model.onnx'
    tool.main([str(config), str(weights), '--shape', '2', '3', '8', '32', '32', '--out', str(out)])
    assert 'model.onnx' in capsys.readouterr().out
    inputs = torch.randn(3, 2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        expected = model(inputs, [ActionDataSample() for _ in inputs], mode='predict')
    session = onnxruntime.InferenceSession(str(out), providers=['CPUExecutionProvider'])
    came = session.run(['cls_score'], {'input_tensor': inputs.numpy()})[0]
    np.testing.assert_allclose(came, np.stack([sample.pred_score.numpy() for sample in expected]), atol=1e-5)


def test_wrong_input_is_told_in_one_sentence(trained, tool, tiny_config, tmp_path):
    config, weights, _ = trained
    plugged, cut = tmp_path / 'plugged.py', tmp_path / 'cut.pth'
    tiny_config(tmp_path / 'w', model=dict(neck=dict(type='LSEFNeck'))).dump(str(plugged))
    cut.write_bytes(b'x')
    shape = ['--shape', '1', '3', '8', '32', '32', '--out', str(tmp_path / 'deep' / 'm.onnx')]
    for arguments, words in (
            ([str(config), str(cut), *shape], 'cut.pth (1 bytes) is incomplete'),
            ([str(config), 'gone.pth', *shape], 'gone.pth does not exist'),
            (['gone.py', str(weights), *shape], 'gone.py does not exist'),
            ([str(plugged), str(weights), *shape], 'weights.pth does not hold the weights of'),
            ([str(config), str(weights), '--shape', '1', '8', '32', '32'], 'cannot take inputs of shape (2, 1, 8, 32'),
            ([str(config), str(weights), '--shape', '0', '3', '8', '32', '32'], 'A shape has sizes >= 1, got [0, 3')):
        with pytest.raises(SystemExit) as caught:
            tool.main(arguments)
        message = str(caught.value)
        assert message.startswith('error: ') and words in message and '\n' not in message
