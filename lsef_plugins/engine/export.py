"""A trained recognizer as an ONNX file: the network and its scores, checked against PyTorch before it is written.

The graph takes what the recognizer's data preprocessor hands over, normalised floats ``(b, views, c, t, h, w)`` (for
Recognizer2D ``(b, segments, c, h, w)``, for skeletons ``(b, views, persons, t, joints, c)``), and gives the scores of
``mode='predict'``, averaged over views as the head's ``average_clips`` asks, or the head's logits (of a
``ValenceArousalHead`` both are ratings). Decoding, cropping and normalising stay outside. The number of clips ``b`` is
free where the recognizer allows it; all else is fixed.
"""
import contextlib
import importlib.util
import inspect
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint
from torch import Tensor, nn

from lsef_plugins.functional import plain_operations
from lsef_plugins.registry import MODELS

from .launch import LaunchError, must_exist, read_config

INPUT, OUTPUT = 'input_tensor', 'cls_score'
SCORES = ('predict', 'logits')


class OnnxFile(NamedTuple):
    """``nodes`` counts those of all graphs of the file; ``batch`` is the number of clips it takes, None for any;
    ``difference`` is the largest one from PyTorch's scores, None if it was not compared."""
    path: str
    nodes: int
    batch: Optional[int]
    difference: Optional[float]


def export_onnx(recognizer: nn.Module, inputs: Tensor, path: str, scores: str = 'predict', dynamic_batch: bool = True,
                opset: Optional[int] = None, tolerance: float = 1e-4) -> OnnxFile:
    """Write a recognizer, as it behaves in testing, to an ONNX file.

    Args:
        recognizer: one that takes a single tensor; its training flags come back as they were.
        inputs: an example of what its data preprocessor hands over, on its device. Its shape is that of the graph,
            save for the number of clips; its values are those that are compared.
        path: the file, written whole or not at all; weights beyond ONNX's 2 GB go to ``path + '.data'``.
        scores: ``predict``, what ``mode='predict'`` gives, or ``logits``, the head's output for each view.
        dynamic_batch: leave the number of clips open, if the recognizer's own code allows it.
        opset: version of the ONNX operators, by default the exporter's.
        tolerance: largest difference from PyTorch's scores, relative to the largest of them where that exceeds 1.

    Raises:
        LaunchError: packages are missing, the request cannot work, or the scores differ (then nothing is written).
    """
    if scores not in SCORES:
        raise LaunchError(f'scores {scores!r} is unknown; choose one of {", ".join(SCORES)}.')
    if not isinstance(inputs, Tensor) or inputs.dim() < 4 or not len(inputs):
        came = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise LaunchError(f'Only recognizers of one tensor (b, views, ...) with b >= 1 can be exported, got {came}. '
                          'It is what recognizer.data_preprocessor(data)["inputs"] gives.')
    _check_packages()
    folder = Path(path).absolute().parent
    folder.mkdir(parents=True, exist_ok=True)
    with _as_tested(recognizer), torch.no_grad():
        # A graph traced with one clip knows no other number.
        example = inputs if len(inputs) > 1 or not dynamic_batch else torch.cat([inputs, inputs])
        try:
            network = _Scores(recognizer, scores, example)
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            if isinstance(error, LaunchError):
                raise
            raise LaunchError(f'This {type(recognizer).__name__} cannot take inputs of shape {tuple(inputs.shape)}: '
                              f'{_in_one_line(error)}') from error
        program, batch = _program(network, example, dynamic_batch, opset)
        with tempfile.TemporaryDirectory(dir=folder, prefix='.onnx_') as unfinished:
            made = os.path.join(unfinished, Path(path).name)
            program.save(made)
            difference = _difference(recognizer, network, scores, made, example, batch, tolerance)
            # The weights first: the other file refers to them.
            for name in sorted(os.listdir(unfinished), key=lambda name: not name.endswith('.data')):
                os.replace(os.path.join(unfinished, name), folder / name)
    return OnnxFile(str(path), _count_nodes(program.model_proto.graph), batch, difference)


def export_checkpoint(config: str, checkpoint: str, path: str, shape: Sequence[int], scores: str = 'predict',
                      batch: Optional[int] = None, opset: Optional[int] = None, device: str = 'cpu',
                      options: Optional[dict] = None) -> OnnxFile:
    """Write the recognizer of a configuration file with its weights; see :func:`export_onnx`.

    Args:
        shape: of one sample as it leaves the data preprocessor, such as ``(1, 3, 8, 224, 224)``.
        batch: a fixed number of clips; None leaves it open.
        options: overrides of the config.

    Raises:
        LaunchError: also when the weights are not those of this recognizer.
    """
    cfg = read_config(config, None, 'none', options)
    must_exist(checkpoint)
    _check_packages()
    if any(size < 1 for size in shape) or (batch is not None and batch < 1):
        raise LaunchError(f'A shape has sizes >= 1, got {list(shape)} for {batch or "any number of"} clips.')
    init_default_scope(cfg.get('default_scope', 'mmaction'))
    recognizer = MODELS.build(cfg.model)
    try:
        load_checkpoint(recognizer, checkpoint, map_location='cpu', strict=True)
    except RuntimeError as error:
        if type(error) is not RuntimeError:
            raise                               # of our own, and clear
        raise LaunchError(f'{checkpoint} does not hold the weights of {config}: {_in_one_line(error)} Give the config '
                          'it was trained with.') from error
    inputs = torch.randn(batch or 2, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return export_onnx(recognizer.to(device), inputs, path, scores, batch is None, opset)


def _in_one_line(error: Exception, length: int = 300) -> str:
    text = ' '.join(str(error).split())
    return text if len(text) <= length else f'{text[:length]} ...'


class _Scores(nn.Module):
    """From inputs to scores by the recognizer's own steps of testing, without its samples."""

    def __init__(self, recognizer: Any, scores: str, example: Tensor) -> None:
        super().__init__()
        self.recognizer = recognizer
        self.views: Optional[int] = None
        logits = self(example)
        if not isinstance(logits, Tensor):
            raise LaunchError(f'The head of this {type(recognizer).__name__} gives {type(logits).__name__} instead of '
                              'one tensor of scores, which cannot be exported.')
        if scores == 'predict':
            self.views = len(logits) // len(example)

    def forward(self, inputs: Tensor) -> Tensor:
        features, options = self.recognizer.extract_feat(inputs, test_mode=True)
        logits = self.recognizer.cls_head(features, **options)
        if self.views is None:
            return logits
        return self.recognizer.cls_head.average_clip(logits, num_segs=self.views)


@contextlib.contextmanager
def _as_tested(recognizer: Any) -> Iterator[None]:
    """Evaluation mode, and all views in one forward: splitting them saves memory and is no part of the network."""
    training = {module: module.training for module in recognizer.modules()}
    before = getattr(recognizer, 'test_cfg', None)
    recognizer.eval()
    if before is not None:
        recognizer.test_cfg = {key: value for key, value in before.items() if key != 'max_testing_views'}
    try:
        yield
    finally:
        for module, flag in training.items():
            module.training = flag
        if before is not None:
            recognizer.test_cfg = before


def _check_packages() -> None:
    missing = [name for name in ('onnx', 'onnxscript') if importlib.util.find_spec(name) is None]
    if missing:
        raise LaunchError(f'Writing ONNX needs {" and ".join(missing)}: pip install onnx onnxscript onnxruntime')
    if 'dynamo' not in inspect.signature(torch.onnx.export).parameters or not hasattr(torch.export.Dim, 'AUTO'):
        raise LaunchError('Writing ONNX needs the exporter of torch 2.6 or newer, which this torch lacks. Its older '
                          'exporter cannot write every recognizer. Export in an environment with a newer torch; '
                          'checkpoints of the older one load there.')


def _program(network: nn.Module, example: Tensor, dynamic_batch: bool,
             opset: Optional[int]) -> Tuple[Any, Optional[int]]:
    free = {0: torch.export.Dim.AUTO} if dynamic_batch else {}
    with plain_operations(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        traced = torch.export.export(network, (example, ), dynamic_shapes=(free or None, ), strict=False)
        program: Any = torch.onnx.export(traced, dynamo=True, opset_version=opset, input_names=[INPUT],
                                         output_names=[OUTPUT], verbose=False)
    size = program.model_proto.graph.input[0].type.tensor_type.shape.dim[0]
    return program, size.dim_value if size.HasField('dim_value') else None


def _difference(recognizer: Any, network: nn.Module, scores: str, path: str, example: Tensor, batch: Optional[int],
                tolerance: float) -> Optional[float]:
    """The largest difference between the file and PyTorch, also with another number of clips where that is free."""
    if importlib.util.find_spec('onnxruntime') is None:
        warnings.warn('The ONNX file was written without comparing its scores with those of PyTorch: '
                      'pip install onnxruntime', stacklevel=3)
        return None
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=['CPUExecutionProvider'])
    batches = [example] if batch is not None else [example, torch.cat([example, example[:1].flip(-1)])]
    largest = 0.0

    def of_pytorch(inputs: Tensor) -> Tensor:
        return (_predicted(recognizer, inputs) if scores == 'predict' else network(inputs)).cpu()

    for inputs in batches:
        came = torch.from_numpy(session.run(None, {INPUT: inputs.cpu().numpy()})[0])
        expected = of_pytorch(inputs).to(came.dtype)
        if came.shape != expected.shape:
            raise LaunchError(f'The exported scores are {tuple(came.shape)}, those of PyTorch {tuple(expected.shape)}: '
                              f'the predict of {type(recognizer.cls_head).__name__} does more than its forward and '
                              "average_clip. Export scores='logits' and finish outside. Nothing was written.")
        difference = float((came - expected).abs().max() / expected.abs().max().clamp_min(1))
        if not difference <= tolerance:
            if not torch.equal(of_pytorch(inputs).to(came.dtype), expected):
                raise LaunchError(f'The scores of this {type(recognizer.cls_head).__name__} are drawn at random anew '
                                  'in each call, also in testing (as TRNHead does), so no file can agree with them. '
                                  'Nothing was written.')
            raise LaunchError(f'The exported scores differ from those of PyTorch by {difference:.2g}, more than '
                              f'{tolerance:.2g}, with {len(inputs)} clips. Nothing was written. A larger tolerance '
                              'accepts it; half-precision models need about 1e-2.')
        largest = max(largest, difference)
    return largest


def _predicted(recognizer: Any, inputs: Tensor) -> Tensor:
    from mmaction.structures import ActionDataSample
    samples = [ActionDataSample() for _ in range(len(inputs))]
    found = recognizer(inputs, samples, mode='predict')
    return torch.stack([sample.get('pred_valence_arousal', sample.get('pred_score')) for sample in found])


def _count_nodes(graph: Any) -> int:
    inner: List[Any] = [attribute.g for node in graph.node for attribute in node.attribute if attribute.HasField('g')]
    return len(graph.node) + sum(map(_count_nodes, inner))
