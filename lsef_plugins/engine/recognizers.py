"""A recognizer with an LSEFNeck, its weights checked against it, and what its test pipeline does to frames."""
import copy
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from mmengine.config import Config

from lsef_plugins.models import LSEFNeck

from .config_names import bare_name, config_file
from .launch import read_config
from .weights import load_weights

SAMPLERS = ('SampleFrames', 'DenseSampleFrames', 'UniformSample')


class Sampler(NamedTuple):
    """Frames of a window, the interval between them (None: evenly over a stretch), frames of a clip as the pipeline
    counts them (1 for the segments of a 2-D recognizer)."""
    window: int
    interval: Optional[int]
    clip_len: int


class Steps(NamedTuple):
    """A test pipeline in parts: how many frames it takes, the steps that sample, the name of the one that decodes, the
    steps behind it."""
    sampler: Sampler
    sampling: List[Dict[str, Any]]
    decoder: str
    after: List[Dict[str, Any]]


def load_recognizer(config: Union[str, Config], checkpoint: Optional[str] = None,
                    device: str = 'cpu') -> Tuple[Any, Any, Any]:
    """The config, the recognizer in evaluation mode, and the checkpoint's content (None without one).

    Args:
        config: a path, the name of a package's config such as ``mmaction::...``, or a Config, which stays as it is.
        checkpoint: path or URL, read as weights and plain values only; None leaves the recognizer untrained (seed 0).
        device: such as 'cpu' or 'cuda:0'.

    Raises:
        OSError, ValueError: config or checkpoint cannot be used.
    """
    from mmaction.apis import init_recognizer
    from mmengine.runner import CheckpointLoader
    name = name_of(config)
    cfg = copy.deepcopy(config) if isinstance(config, Config) else read_config(config_file(config), None, 'none', None)
    if 'model' not in cfg:
        raise ValueError(f'{name} has no model: it is no config of a recognizer.')
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:     # torch's word for a build without CUDA is an assertion
        raise ValueError(f'--device {device} cannot be used here: {str(error).splitlines()[0]}') from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)            # for a recognizer without a checkpoint
        try:
            recognizer = init_recognizer(cfg, None, device=device)
        except (KeyError, TypeError) as error:
            raise ValueError(f'{name}: its model cannot be built: {error.args[0] if error.args else error}') from error
    if checkpoint is None:
        return cfg, recognizer, None
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except RuntimeError as error:   # a CheckpointError, which names the file and the way out
        raise ValueError(error) from error
    load_weights(recognizer, content, checkpoint, name)
    return cfg, recognizer, content


def name_of(config: Union[str, Config]) -> str:
    """What a config is called in messages."""
    return (config.filename or 'the config') if isinstance(config, Config) else str(config)


def neck_of(recognizer: torch.nn.Module, config: str, stream: int = 0, needed: bool = True) -> Any:
    """The recognizer's LSEFNeck; None where there is none and none is ``needed``.

    Raises:
        ValueError: it has none, or the neck has no such stream.
    """
    necks: List[Any] = [module for module in recognizer.modules() if isinstance(module, LSEFNeck)]
    if not necks and not needed:
        return None
    if not necks:
        raise ValueError(f"{config}: this {type(recognizer).__name__} has no LSEFNeck. Add neck=dict("
                         "type='LSEFNeck') to its model, or leave --config out to decompose the pixels.")
    if not 0 <= stream < len(necks[0].streams):
        raise ValueError(f'--stream {stream}: this recognizer has {len(necks[0].streams)} of them; count from 0.')
    return necks[0]


def tested_dataset(cfg: Any) -> Dict[str, Any]:
    """The config of the data set that is tested, without its wrappers."""
    dataset = cfg.get('test_dataloader', {}).get('dataset', {})
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def tested_steps(cfg: Any) -> List[Dict[str, Any]]:
    """The test pipeline as the Runner runs it: that of the tested data set. The variable ``test_pipeline`` is another
    thing as soon as a child config changes one of the two; it serves where the data set has none."""
    return list(tested_dataset(cfg).get('pipeline') or cfg.get('test_pipeline') or ())


def names_of(steps: Sequence[Mapping[str, Any]]) -> List[str]:
    """What the steps of a pipeline are called, without scopes."""
    return [str(bare_name(step['type'])) for step in steps]


def split_pipeline(cfg: Any, config: str) -> Steps:
    """The test pipeline around its last step that decodes.

    Raises:
        ValueError: it does not decode, or does not say how many frames it samples.
    """
    dataset, steps = tested_dataset(cfg), tested_steps(cfg)
    names = names_of(steps)
    decoding = [index for index, name in enumerate(names) if 'Decode' in name]
    if not decoding:
        raise ValueError(f'{config}: no step of the test pipeline decodes ({", ".join(names) or "it is empty"}), so '
                         'there is no place to put frames in. Frames of a video need a pipeline of videos or frames.')
    samplers = [step for step, name in zip(steps[:decoding[-1]], names) if name in SAMPLERS]
    # What opens a file (DecordInit, ...) has no business with frames that are there.
    before = [step for step, name in zip(steps[:decoding[-1]], names) if 'Init' not in name and 'Decode' not in name]
    return Steps(_sampler(samplers[-1] if samplers else dataset, config), before, names[decoding[-1]],
                 steps[decoding[-1] + 1:])


def _sampler(step: Mapping[str, Any], config: str) -> Sampler:
    length, clips = step.get('clip_len'), step.get('num_clips', 1)
    if length is None:
        raise ValueError(f'{config}: neither the test pipeline ({" or ".join(SAMPLERS)}) nor its data set says how '
                         'many frames a clip has (clip_len).')
    if bare_name(step.get('type')) == 'UniformSample':
        return Sampler(length, None, length)
    if length == 1:
        return Sampler(clips, None, 1)
    return Sampler(length, step.get('frame_interval', 1), length)


def class_words(dataset: Mapping[str, Any], content: Any) -> Tuple[str, ...]:
    """Names of the classes: those the checkpoint was trained with, else those of the data set's config; or none."""
    meta = (content.get('meta') or {}).get('dataset_meta') if isinstance(content, Mapping) else None
    for place in (meta, dataset.get('metainfo'), dataset):
        names = (place or {}).get('classes')
        if isinstance(names, (list, tuple)):
            return tuple(str(name) for name in names)
    return ()


def words_of(config: str, stream: Any, shape: Tuple[int, ...]) -> str:
    """What is decomposed, and how: maps of ``shape`` ``(b, c, t, h, w)`` by one stream of a neck."""
    _, channels, frames, height, width = shape
    return (f'{Path(config).name}   ·   features: {channels} channels, {width} x {height}, {frames} frames   ·   '
            f'{_base_of(stream.sem)}   ·   {_transient_of(stream.ddm)}')


def _base_of(sem: Any) -> str:
    own = getattr(sem, 'module', None)
    if own is not None:
        return f'base: {type(own).__name__}'
    return f'base of rank {getattr(sem, "rank", 0)} at most'


def _transient_of(ddm: Any) -> str:
    own = getattr(ddm, 'module', None)
    if own is not None:
        return f'transient: {type(own).__name__}'
    return 'no transient' if ddm is None else (f'transient beyond κ = {float(ddm.kappa.detach().mean()):.2g}, mean of '
                                               'the channels')


def notes_of(checkpoint: Optional[str]) -> str:
    """What to keep in mind."""
    return ((f'Checkpoint {Path(checkpoint).name}.' if checkpoint else 'Untrained: no checkpoint was given.')
            + ' The stable row shows the mixture of frames that the features\' base is.')


def pictures_of(inputs: torch.Tensor, length: int, crop: int) -> np.ndarray:
    """The ``length`` frames ``(t, h, w, 3)`` uint8 of one crop, as the recognizer sees them."""
    pictures = inputs.numpy()
    if pictures.ndim == 5:                              # (crops, 3, t, h, w)
        pictures = pictures[min(crop, len(pictures) - 1)].transpose(1, 2, 3, 0)
    else:                                               # (crops t, 3, h, w)
        first = min(crop * length, len(pictures) - length)
        pictures = pictures[first:first + length].transpose(0, 2, 3, 1)
    return np.ascontiguousarray(pictures.clip(0, 255).astype(np.uint8))
