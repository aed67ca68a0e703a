"""Fault: ``ActionRecogInferencer`` and ``MMAction2Inferencer`` stop with *'ActionDataSample' object has no attribute
'pred_label'* when a recognizer rates valence and arousal: they know classes only.

Mend: such a data sample is told as the labels ``['valence', 'arousal']`` and the ratings as their scores (a pair for
each frame, where frames are rated). Samples with a label are the host's business as before.

Delete when: a release of mmaction2 tells data samples without labels.
"""
import functools

LABELS = ['valence', 'arousal']


def reason() -> str:
    return "MMAction2's inferencers stop at recognizers that rate instead of classifying"


def apply() -> None:
    from mmaction.apis.inferencers import ActionRecogInferencer
    if not getattr(ActionRecogInferencer.pred2dict, 'of_lsef_plugins', False):
        ActionRecogInferencer.pred2dict = _ratings_too(ActionRecogInferencer.pred2dict)


def _ratings_too(stock):

    @functools.wraps(stock)
    def pred2dict(self, data_sample):
        if 'pred_valence_arousal' in data_sample and 'pred_label' not in data_sample:
            return dict(pred_labels=list(LABELS), pred_scores=data_sample.pred_valence_arousal.tolist())
        return stock(self, data_sample)

    pred2dict.of_lsef_plugins = True  # type: ignore[attr-defined]
    return pred2dict
