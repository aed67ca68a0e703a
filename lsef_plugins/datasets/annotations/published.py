"""What the publications say about the data sets: how many clips, in which shares, how short.

A number is here because it was printed; what was not printed is absent, and then nothing is compared.
Source: DFEW (ACM MM 2020), FERV39k (CVPR 2022), VEATIC (WACV 2024) and their releases.
"""
from typing import Any

#: Sizes of (train, test) of DFEW's five folds; the five test folds are disjoint and make up the 11,697 clips.
DFEW_FOLDS = ((9356, 2341), (9356, 2341), (9357, 2340), (9358, 2339), (9361, 2336))
PUBLISHED: dict[str, dict[str, Any]] = {
    'dfew': dict(
        folds=DFEW_FOLDS, clips=16372, single_labelled=12059, with_face=11697,
        shares=dict(Happy=.209, Sad=.162, Neutral=.228, Angry=.186, Surprise=.126, Disgust=.012, Fear=.077),
        frames=(11, 847)),
    'ferv39k': dict(folds=((31088, 7847),), clips=38935, scenes=22, frames=(8, 47)),
    'veatic': dict(videos=124, fps=25),
}
