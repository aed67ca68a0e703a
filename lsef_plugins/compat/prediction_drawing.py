"""Fault: drawn predictions. ``--show-dir`` stops in ``VisualizationHook``, and neither it nor
``MMAction2Inferencer`` ever draws a label.

mmaction2 1.2.0's hook expects a clip as ``(c, t, h, w)``, but its pipelines pack ``(clips, c, t, h, w)`` for
Recognizer3D and ``(t, c, h, w)`` for Recognizer2D; it passes ``show`` to a function that calls it ``show_frames``; and
the visualizer looks for ``gt_labels`` and ``pred_labels`` while data samples hold ``gt_label`` and ``pred_score``.

Mend: the hook is handed the first clip in the layout it expects, the argument gets its name, and the visualizer a
sample under the names it looks for.

Delete when: a release of mmaction2 runs ``tools/test.py --show-dir`` and its pictures show the prediction.
"""
import functools
import inspect


def reason() -> str:
    from mmaction.visualization import ActionVisualizer
    if 'show' in inspect.signature(ActionVisualizer.add_datasample).parameters:
        return ''
    return "MMAction2's VisualizationHook and its visualizer disagree on names and layouts"


def apply() -> None:
    from mmaction.engine.hooks import VisualizationHook
    from mmaction.visualization import ActionVisualizer
    if reason():
        _replace(VisualizationHook, '_draw_samples', _handing_over_clips)
        _replace(ActionVisualizer, 'add_datasample', _under_the_visualizers_names)


def _replace(cls: type, name: str, mend) -> None:
    stock = getattr(cls, name)
    if not getattr(stock, 'of_lsef_plugins', False):
        mended = functools.wraps(stock)(mend(stock))
        mended.of_lsef_plugins = True  # type: ignore[attr-defined]
        setattr(cls, name, mended)


def _handing_over_clips(stock):

    def wrapper(self, batch_idx, data_batch, data_samples, step=0):
        if not self.enable:
            return
        if 'show' in self.draw_args:
            self.draw_args['show_frames'] = self.draw_args.pop('show')
        clips = [one_clip(video) for video in data_batch['inputs']]
        stock(self, batch_idx, {**data_batch, 'inputs': clips}, data_samples, step)

    return wrapper


def one_clip(video):
    """The first clip of a packed input as ``(c, t, h, w)``.

    ``video``: ``(clips, c, t, h, w)`` of Recognizer3D, ``(t, c, h, w)`` of Recognizer2D (of three segments, too), or
    ``(c, t, h, w)``.
    """
    if video.ndim == 5:
        return video[0]
    if video.ndim == 4 and video.shape[1] in (1, 3):
        return video.transpose(0, 1)
    return video


def _under_the_visualizers_names(stock):

    def wrapper(self, name, video, data_sample=None, *args, **kwargs):
        return stock(self, name, video, _renamed(data_sample), *args, **kwargs)

    return wrapper


def _renamed(sample):
    if sample is None or 'pred_labels' in sample or 'gt_labels' in sample:
        return sample
    from mmengine.structures import LabelData
    renamed = sample.clone()
    if 'gt_label' in sample:
        renamed.set_field(LabelData(item=sample.gt_label), 'gt_labels', dtype=None)
    if 'pred_score' in sample:
        renamed.set_field(LabelData(item=sample.pred_score.argmax(dim=-1, keepdim=True), score=sample.pred_score),
                          'pred_labels', dtype=None)
    return renamed
