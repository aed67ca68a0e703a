"""Fault: under bfloat16 autocast training and testing stop with *Got unsupported ScalarType BFloat16*.

MMAction2's heads compute the training accuracy with numpy, and its metrics collect the predicted scores
with numpy, which has no bfloat16.

Mend: scores leave the heads of MMAction2 in float32 where they come in bfloat16. The loss is unchanged:
autocast computes cross entropy in float32 anyway. All other types pass untouched.

Delete when: mmaction2 casts before it calls ``.numpy()``.
"""
import functools

HEADS = ('BaseHead', 'RGBPoseHead', 'OmniHead')


def reason() -> str:
    return "MMAction2's heads hand bfloat16 scores to numpy"


def apply() -> None:
    import mmaction.models.heads as heads
    for head in HEADS:
        cls = getattr(heads, head)
        for name in ('loss_by_feat', 'predict_by_feat'):
            stock = vars(cls).get(name)
            if stock is not None and not getattr(stock, 'of_lsef_plugins', False):
                setattr(cls, name, _in_float32(stock))


def _in_float32(stock):

    @functools.wraps(stock)
    def wrapper(self, cls_scores, *args, **kwargs):
        return stock(self, _without_bfloat16(cls_scores), *args, **kwargs)

    wrapper.of_lsef_plugins = True  # type: ignore[attr-defined]
    return wrapper


def _without_bfloat16(scores):
    import torch
    if isinstance(scores, dict):
        return {name: _without_bfloat16(value) for name, value in scores.items()}
    if isinstance(scores, (tuple, list)):
        return type(scores)(_without_bfloat16(value) for value in scores)
    return scores.float() if torch.is_tensor(scores) and scores.dtype == torch.bfloat16 else scores
