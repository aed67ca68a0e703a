"""The page names each number the hook logs and the metric reports, and each option it advises is one."""
import inspect
import re
from pathlib import Path

import numpy as np

import lsef_plugins  # noqa: F401
from lsef_plugins.engine.hooks.decomposition_hook import NAMES
from lsef_plugins.evaluation.metrics import DecompositionRecoveryMetric

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'decomposition_scores.md').read_text(encoding='utf-8')


def reported():
    t = 8
    found = dict(transient=np.ones((1, t)), residual=np.ones((1, t)), frame_gate=np.zeros((1, t)),
                 curves=np.ones((1, t, 2)), stable_drift=np.zeros(1), feature_drift=np.zeros(1))
    metric = DecompositionRecoveryMetric(prefix='')
    metric.process(None, [dict(decomposition=dict(neck=found), planted=dict(
        stable=np.ones((1, t, 1)), transient=np.zeros((1, t, 1))))])
    return [name for name in metric.compute_metrics(metric.results) if name not in ('clips', 'event_clips')]


def test_each_number_is_on_the_page():
    assert len(reported()) == 17
    for name in [*NAMES, *reported()]:
        assert re.search(rf'`(recovery/)?{name}`', PAGE), name


def test_each_option_on_the_page_is_one_of_the_metric():
    options = inspect.signature(DecompositionRecoveryMetric).parameters
    for name in ('event_level=0.25', 'min_iou=0.5'):
        assert name in PAGE and str(options[name.partition('=')[0]].default) == name.partition('=')[2]
    assert {'views', 'stable', 'transient'} <= set(options)


def test_the_files_it_links_exist():
    for link in re.findall(r'\]\(([^)]+)\)', PAGE):
        assert (ROOT / 'docs' / link).is_file(), link
    for tool in re.findall(r'python (tools/\S+\.py)', PAGE):
        assert (ROOT / tool).is_file(), tool
