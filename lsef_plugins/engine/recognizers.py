"""A recognizer with an LSEFNeck, its weights checked against it, and what its test pipeline does to frames."""
from pathlib import Path
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
import torch

from lsef_plugins.models import LSEFNeck

from .launch import read_config

SAMPLERS = ('SampleFrames', 'DenseSampleFrames', 'UniformSample')


class Sampler(NamedTuple):
    """Frames of a window, the interval between them (None: evenly over a stretch), frames of a clip as the pipeline
    counts them (1 for the segments of a 2-D recognizer)."""
    window: int
    interval: Optional[int]
    clip_len: int


def load_recognizer(config: str, checkpoint: Optional[str] = None, device: str = 'cpu') -> Tuple[Any, Any, Any]:
    """The config, the recognizer in evaluation mode, and the checkpoint's content (None without one).

    The checkpoint is read as weights and plain values only.

    Raises:
        OSError, ValueError: config or checkpoint cannot be used.
    """
    from mmaction.apis import init_recognizer
    from mmengine.runner import CheckpointLoader
    cfg = read_config(config, None, 'none', None)
    if 'model' not in cfg:
        raise ValueError(f'{config} has no model: it is no config of a recognizer.')
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:     # torch's word for a build without CUDA is an assertion
        raise ValueError(f'--device {device} cannot be used here: {str(error).splitlines()[0]}') from error
    torch.manual_seed(0)            # for a recognizer without a checkpoint
    try:
        recognizer = init_recognizer(cfg, None, device=device)
    except (KeyError, TypeError) as error:
        raise ValueError(f'{config}: its model cannot be built: {error.args[0] if error.args else error}') from error
    if checkpoint is None:
        return cfg, recognizer, None
    try:
        content = CheckpointLoader.load_checkpoint(checkpoint, map_location='cpu')
    except RuntimeError as error:   # a CheckpointError, which names the file and the way out
        raise ValueError(error) from error
    load_weights(recognizer, content, checkpoint, config)
    return cfg, recognizer, content


def load_weights(recognizer: torch.nn.Module, content: Any, checkpoint: str, config: str) -> None:
    """Loads all weights, or says which are not there.

    Raises:
        ValueError: the checkpoint has no weights of the neck, or is one of another model.
    """
    state = state_of(content)
    check_weights(recognizer.state_dict(), state, checkpoint, config)
    recognizer.load_state_dict(state, strict=False)


def state_of(content: Any) -> Dict[str, Any]:
    """The weights of a checkpoint's content by the names they have without a wrapper."""
    state = content.get('state_dict', content) if isinstance(content, Mapping) else {}
    return {name[7:] if name.startswith('module.') else name: value for name, value in state.items()}


def check_weights(own: Mapping[str, Any], state: Mapping[str, Any], checkpoint: str, config: str) -> None:
    """Compares the weights of a model with those of a checkpoint, by name and shape.

    Raises:
        ValueError: see :func:`load_weights`.
    """
    missing = [name for name in own if name not in state and not name.endswith('num_batches_tracked')]
    necks = [name for name in missing if name.split('.')[0] == 'neck']
    if missing and necks == missing:
        raise ValueError(f'{checkpoint} has no weights of the neck ({len(necks)} are missing, such as {necks[0]}): it '
                         f'was trained without one. Train {Path(config).name} from it (--cfg-options load_from='
                         f'{checkpoint}) and give that checkpoint.')
    if missing:
        raise ValueError(f'{checkpoint} does not fit {config}: {len(missing)} weights are missing, such as '
                         f'{", ".join(missing[:3])}. Give the config it was trained with.')
    for name, value in own.items():
        if name in state and tuple(state[name].shape) != tuple(value.shape):
            raise ValueError(f'{checkpoint} does not fit {config}: size mismatch for {name}, '
                             f'{tuple(state[name].shape)} in the checkpoint and {tuple(value.shape)} in the '
                             'model. Give the config it was trained with.')
    dropped = [name for name in state if name.split('.')[0] == 'neck']
    if dropped and not any(name.split('.')[0] == 'neck' for name in own):
        raise ValueError(f'{checkpoint} has a neck ({dropped[0]} and so on) and {config} has none: without it the '
                         'weights are of no use. Give the config it was trained with.')


def neck_of(recognizer: torch.nn.Module, config: str, stream: int = 0) -> Any:
    """The recognizer's LSEFNeck.

    Raises:
        ValueError: it has none, or the neck has no such stream.
    """
    necks: List[Any] = [module for module in recognizer.modules() if isinstance(module, LSEFNeck)]
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


def split_pipeline(cfg: Any, config: str) -> Tuple[Sampler, List[Dict[str, Any]]]:
    """How the test pipeline samples, and its steps behind the one that decodes.

    Raises:
        ValueError: it does not decode, or does not say how many frames it samples.
    """
    dataset = tested_dataset(cfg)
    steps = list(cfg.get('test_pipeline') or dataset.get('pipeline') or ())
    names = [str(step['type']) for step in steps]
    decoding = [index for index, name in enumerate(names) if 'Decode' in name]
    if not decoding:
        raise ValueError(f'{config}: no step of the test pipeline decodes ({", ".join(names) or "it is empty"}), so '
                         'there is no place to put frames in. Frames of a video need a pipeline of videos or frames.')
    samplers = [step for step in steps[:decoding[-1]] if str(step['type']).split('.')[-1] in SAMPLERS]
    return _sampler(samplers[-1] if samplers else dataset, config), steps[decoding[-1] + 1:]


def _sampler(step: Mapping[str, Any], config: str) -> Sampler:
    length, clips = step.get('clip_len'), step.get('num_clips', 1)
    if length is None:
        raise ValueError(f'{config}: neither the test pipeline ({" or ".join(SAMPLERS)}) nor its data set says how '
                         'many frames a clip has (clip_len).')
    if step.get('type') == 'UniformSample':
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
