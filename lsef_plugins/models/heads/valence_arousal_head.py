r"""ValenceArousalHead: ratings of a clip, or of each of its frames.

.. math::  (\text{valence}, \text{arousal}) = \tanh(W \operatorname{dropout}(v) + b) \in (-1, 1)^2

``v`` is the mean of what enters the head, as of a stock head, so that a recognizer and the same with a neck of ours
differ in the neck alone; or it is read by :class:`lsef_plugins.nn.DecompositionPooling`, as :class:`LSEFHead` does.
Several views of a video are averaged as ratings: a mean of numbers, never a softmax. Every rating passes as float32.
Axes: ``b`` clips, ``c`` channels, ``t`` frames of the maps, ``f`` frames that are rated; the last one is
(valence, arousal).
"""
import inspect
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
import torch.nn.functional as F
from mmengine.model.weight_init import normal_init
from torch import Tensor, nn

from lsef_plugins.functional.concordance import concordance
from lsef_plugins.nn.pooling import DecompositionPooling
from lsef_plugins.registry import MODELS

from .lsef_head import over_its_rms
from .sited_head import Channels, SitedHead, plain_vector

TRUTH, PREDICTION = 'gt_valence_arousal', 'pred_valence_arousal'


@MODELS.register_module()
class ValenceArousalHead(SitedHead):
    """Regresses valence and arousal in (-1, 1).

    ``cls_head=dict(_delete_=True, type='ValenceArousalHead', in_channels=2048)`` replaces the head of any recognizer,
    with or without a neck of the pack. It reads ``gt_valence_arousal`` of the data samples, which
    :class:`PackAffectInputs` packs, and writes ``pred_valence_arousal``: ``(2,)``, or ``(n, 2)`` where frames are
    rated (or the truth has a rating for each of several clips).

    Args:
        in_channels: channels of what enters the head, as of any head.
        num_frames: None for one rating per clip; else the frames of a clip, each of which is rated: maps of fewer
            (or more) frames are interpolated in time.
        decomposition: None for the mean (of what enters the head, and of the maps at a ``site``), or options of
            :class:`lsef_plugins.nn.DecompositionPooling` (``dict()`` for its defaults) for its readings; rated frames
            get their own mean beside the clip's readings.
        loss_cls: a loss of (predicted, true) ratings ``(b, 2)`` or ``(b, f, 2)``, NaN where there is no rating.
        average_clips: 'score', the host's word for a plain mean over the views of a video. There is no other way.
        num_segments, site: as of :class:`LSEFHead`.
        dropout_ratio, init_std: of the linear layer.

    Source:
        Ours; arXiv:2511.11406 (abstract) says nothing of ratings.
    """

    def __init__(self, in_channels: Channels, num_frames: Optional[int] = None,
                 decomposition: Optional[Mapping[str, Any]] = None, loss_cls: Mapping[str, Any] = dict(type='CCCLoss'),
                 num_segments: Optional[int] = None, site: Optional[Mapping[str, Any]] = None,
                 dropout_ratio: float = 0.5, init_std: float = 0.01, average_clips: str = 'score',
                 init_cfg: Any = None, **kwargs: Any) -> None:
        _check_options(kwargs, average_clips, num_frames)
        super().__init__(2, in_channels, num_segments, site, loss_cls=loss_cls, average_clips=average_clips,
                         init_cfg=init_cfg)
        self.num_frames = num_frames
        self.options: Optional[Dict[str, Any]] = None if decomposition is None else dict(decomposition)
        self.init_std = init_std
        self.dropout: Any = nn.Dropout(p=dropout_ratio) if dropout_ratio else None
        self.rebuild((in_channels, ) if isinstance(in_channels, int) else tuple(in_channels))

    def build(self, channels: Tuple[int, ...], plain: int) -> None:
        poolings = [] if self.options is None else [DecompositionPooling(c, **self.options) for c in channels]
        self.poolings: Any = nn.ModuleList(poolings)
        size = plain + sum(pooling.out_channels for pooling in poolings)
        if self.num_frames is not None or (self.options is None and (self.reads_maps() or not plain)):
            size += sum(channels)
        # Last: TSMOptimWrapperConstructor takes the last linear layer for the classifier.
        self.fc_cls = nn.Linear(size, 2)

    def reads_maps(self) -> bool:
        """A mean is that of what enters the head, unless frames are asked for, or a place of the user's own."""
        return self.num_frames is not None or self.options is not None or self.site is not None

    def init_weights(self) -> None:
        """The host's initialisation of a linear classifier; thresholds at their start."""
        super().init_weights()
        if self.init_cfg is None:
            normal_init(self.fc_cls, std=self.init_std)
            for pooling in self.poolings:
                pooling.reset_identity()

    def score(self, maps: List[Tensor], plain: Optional[Tensor]) -> Tensor:
        """Maps ``(b, c, t, h, w)`` and perhaps a vector ``(b, c)`` -> ratings ``(b, 2)``, or ``(b, f 2)``."""
        vectors = self.clip_vectors(maps, plain)
        if self.num_frames is not None:
            frames = [self.frame_vectors(x) for x in maps]                                      # (b, f, c)
            clip = [x[:, None].expand(-1, self.num_frames, -1).to(frames[0].dtype) for x in vectors]
            vectors = [*frames, *clip]
        vector = torch.cat(vectors, -1)
        if self.dropout is not None:
            vector = self.dropout(vector)
        ratings = self.fc_cls(vector.to(self.fc_cls.weight.dtype))
        # Beyond float16's and bfloat16's steps near 1 a rating would move in jumps.
        return ratings.to(torch.promote_types(ratings.dtype, torch.float32)).tanh().flatten(1)

    def clip_vectors(self, maps: List[Tensor], plain: Optional[Tensor]) -> List[Tensor]:
        """What is read of the clip as a whole."""
        if self.options is None:
            means = [plain_vector(x) for x in maps] if self.num_frames is None else []
            if plain is None:
                return means
            return [plain, *means] if self.site is not None else [plain]
        vectors = [pooling(x) for pooling, x in zip(self.poolings, maps)]
        return vectors if plain is None else [over_its_rms(plain).to(vectors[0].dtype), *vectors]

    def frame_vectors(self, x: Tensor) -> Tensor:
        """Means of each rated frame, ``(b, c, t, h, w) -> (b, f, c)``; over the clip's own rms beside readings."""
        means = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(3).mean(3)            # (b, c, t)
        if self.options is not None:
            means = over_its_rms(means.flatten(1)).view_as(means)
        if means.shape[2] != self.num_frames:
            means = F.interpolate(means, self.num_frames, mode='linear', align_corners=False)
        return means.transpose(1, 2)

    def forward(self, x: Any, num_segs: Optional[int] = None, **kwargs: Any) -> Tensor:
        """What enters the head -> ratings of each clip, ``(clips, 2)`` or ``(clips, f, 2)``."""
        ratings = super().forward(x, num_segs=num_segs, **kwargs)
        return ratings if self.num_frames is None else ratings.unflatten(1, (self.num_frames, 2))

    def loss_by_feat(self, cls_scores: Tensor, data_samples: Sequence[Any]) -> Dict[str, Tensor]:
        """The loss of the ratings, and their concordance in this batch.

        Returns:
            ``loss_cls``; ``ccc_batch_valence`` and ``ccc_batch_arousal`` for the log: each number is that of a batch.
        """
        target = self.targets(data_samples).to(cls_scores.device)
        ratings = self.of_videos(cls_scores, len(data_samples), target.shape[1:-1])
        losses = {'loss_cls': self.loss_cls(ratings, target)}
        with torch.no_grad():
            flat = target.reshape(-1, 2)
            found = concordance(ratings.detach().reshape(-1, 2).to(flat.dtype), flat, ~torch.isnan(flat))
        losses.update(ccc_batch_valence=found[0], ccc_batch_arousal=found[1])
        return losses

    def predict_by_feat(self, cls_scores: Tensor, data_samples: Sequence[Any]) -> Sequence[Any]:
        """Writes ``pred_valence_arousal`` of each video, averaged over its views."""
        shapes = {tuple(sample.gt_valence_arousal.shape[:-1]) if TRUTH in sample else None for sample in data_samples}
        if len(shapes) > 1:
            raise ValueError(f'The videos of a batch have different numbers of ratings ({shapes}); test with '
                             'batch_size=1.')
        shape = shapes.pop()
        if shape is None:
            shape = self.shape_without_truth(data_samples[0])
        for sample, rating in zip(data_samples, self.of_videos(cls_scores, len(data_samples), shape)):
            sample.set_field(rating.detach(), PREDICTION, dtype=torch.Tensor)
        return data_samples

    def shape_without_truth(self, sample: Any) -> Tuple[int, ...]:
        """What a video without a true rating gets: one, or one for each frame of its clips."""
        if self.num_frames is None:
            return ()
        # A clip of one frame is a segment of Recognizer2D, whose segments are the frames of one clip.
        clips = sample.get('num_clips', 1) if sample.get('clip_len', 1) > 1 else 1
        return (clips * self.num_frames, )

    def of_videos(self, ratings: Tensor, videos: int, shape: Sequence[int]) -> Tensor:
        """Ratings of views ``(videos views, 2)`` or ``(videos views, f, 2)`` -> ``(videos, *shape, 2)``.

        Views are crops of clips, clips the faster axis (as FormatShape leaves them). ``shape`` is ``()`` for one
        rating of a video, else ``(n,)`` with n the frames of all clips one after the other. The mean runs over what
        is left: crops, or all views.
        """
        frames = self.num_frames or 1
        rated = shape[0] if shape else 1
        total = ratings.numel() // (2 * max(videos, 1))
        if rated % frames or not rated or total % rated or (self.num_frames is not None and not shape):
            expected = '(2,)' if self.num_frames is None else f'({frames}, 2), or a multiple of {frames} for clips'
            raise ValueError(
                f'{TRUTH} has shape {(*shape, 2)}, and this head rates {expected}: {total} ratings of a video came. '
                'Make num_frames of the head the number of rated frames of a clip (None: one rating per clip), or let '
                'the data set give the rating of one frame.')
        return ratings.reshape(videos, total // rated, rated, 2).mean(1).reshape(videos, *shape, 2)

    @staticmethod
    def targets(data_samples: Sequence[Any]) -> Tensor:
        """True ratings of a batch, float32 ``(b, 2)`` or ``(b, n, 2)``, NaN where there is none."""
        missing = [index for index, sample in enumerate(data_samples) if TRUTH not in sample]
        if missing:
            raise ValueError(f'{len(missing)} of {len(data_samples)} data samples have no {TRUTH}: end the pipeline '
                             "with PackAffectInputs, and let the data set give results['valence_arousal'].")
        targets = [sample.gt_valence_arousal for sample in data_samples]
        if any(not target.is_floating_point() or target.shape[-1:] != (2, ) for target in targets):
            raise ValueError(f'{TRUTH} holds {[(tuple(t.shape), str(t.dtype)) for t in targets[:3]]}: (valence, '
                             'arousal) as floats are expected; an integer has lost its fraction. PackAffectInputs '
                             'makes them.')
        if len({target.shape for target in targets}) > 1:
            raise ValueError(f'The clips of a batch have different numbers of rated frames: '
                             f'{sorted({tuple(target.shape) for target in targets})}. Sample the same number from '
                             'each.')
        return torch.stack(targets).to(torch.float32)


def _check_options(unknown: Mapping[str, Any], average_clips: str, num_frames: Optional[int]) -> None:
    if unknown:
        own = [name for name in inspect.signature(ValenceArousalHead.__init__).parameters
               if name not in ('self', 'kwargs')]
        raise ValueError(
            f'ValenceArousalHead does not know {", ".join(sorted(unknown))}. It takes {", ".join(own)}. Options that '
            "come from the head of a base config are dropped by cls_head=dict(_delete_=True, "
            "type='ValenceArousalHead', in_channels=...).")
    if average_clips != 'score':
        raise ValueError(f"average_clips is 'score' (the mean of the views' ratings) in ValenceArousalHead, got "
                         f"{average_clips!r}; 'prob' is a softmax, which ratings do not survive.")
    if num_frames is not None and (isinstance(num_frames, bool) or not isinstance(num_frames, int) or num_frames < 1):
        raise ValueError(f'num_frames counts the rated frames of a clip, an integer from 1, or None for one rating per '
                         f'clip; got {num_frames!r}.')
