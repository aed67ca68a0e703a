"""The configs of docs/affect.md are trained and tested as they stand there (on a smaller recognizer)."""
import re
from pathlib import Path

import numpy as np
import pytest
from mmaction.datasets import VideoDataset

from lsef_plugins.engine import launch
from lsef_plugins.registry import DATASETS

PAGE = Path(__file__).resolve().parents[2] / 'docs' / 'affect.md'
MARK = '<!-- executed by tests/docs/test_affect.py -->'
BLOCKS = re.findall(MARK + r'\n```python\n(.*?)```', PAGE.read_text('utf-8'), re.S)


@DATASETS.register_module(name='affect_docs_set', force=True)
class RatedList(VideoDataset):
    """The tiny clips, each with a made rating and a video of its own."""

    def load_data_list(self):
        rng = np.random.default_rng(0)
        return [dict(each, valence_arousal=rng.uniform(-1, 1, 2).astype(np.float32), video_id=f'v{i // 2}',
                     frame_index=i) for i, each in enumerate(super().load_data_list())]


def run(block, tiny_config, tmp_path, monkeypatch, **changes):
    monkeypatch.chdir(tmp_path)
    cfg = tiny_config(tmp_path / 'run', train_cfg=dict(max_epochs=1), **changes)
    cfg.dump(tmp_path / 'recognizer.py')
    (tmp_path / 'example.py').write_text(block.replace('in_channels=2048', 'in_channels=64'), encoding='utf-8')
    launch.train('example.py', work_dir='run', seed=0)
    return launch.test('example.py', 'run/epoch_1.pth', work_dir='test')


@pytest.mark.slow
def test_the_example_of_ratings(tiny_config, tmp_path, monkeypatch):
    ours = dict(dataset=dict(type='affect_docs_set'))
    metrics = run(BLOCKS[0], tiny_config, tmp_path, monkeypatch, train_dataloader=ours, val_dataloader=ours,
                  test_dataloader=ours)
    assert -1 <= metrics['va/ccc_global'] <= 1 and metrics['va/frames'] == 4 and metrics['va/videos'] == 2
    assert metrics['va/rmse_global_valence_low'] <= metrics['va/rmse_global_valence'] <= \
        metrics['va/rmse_global_valence_high']
    assert (tmp_path / 'work_dirs' / 'curves' / 'v0.png').exists()
    assert list((tmp_path / 'run').glob('best_va_ccc_global*.pth'))
    for name in metrics:
        stem = re.sub(r'_(valence|arousal)(_low|_high)?$', '', name)
        assert f'`{stem}`' in PAGE.read_text('utf-8'), f'{stem} is not explained'


@pytest.mark.slow
def test_the_example_of_long_tails(tiny_config, tmp_path, monkeypatch, capsys):
    metrics = run(BLOCKS[1], tiny_config, tmp_path, monkeypatch)
    assert {'acc/war', 'acc/uar', 'acc/recall_0', 'acc/recall_1', 'acc/war_low', 'acc/uar_high'} <= set(metrics)
    assert len(BLOCKS) == 2
