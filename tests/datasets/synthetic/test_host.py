"""The two neighbours of the package: no MMAction2 at all, and MMAction2's own data set and decoders."""
import os
import subprocess
import sys

import numpy as np
import pytest

from lsef_plugins.datasets.synthetic import PRESETS, generate, load_truth
from lsef_plugins.datasets.synthetic.video import decode

BLOCKED = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmaction', 'mmengine', 'mmcv', 'torch', 'einops'):
            raise ImportError(f'{name} is not installed here')
sys.meta_path.insert(0, Blocker())
from lsef_plugins.datasets import synthetic
synthetic.generate('easy', sys.argv[1], clips=(2, 1), workers=1, progress=False)
print(sorted(name for name in sys.modules if name.split('.')[0] in ('mmaction', 'mmengine', 'mmcv', 'torch')))
"""


def test_a_data_set_is_made_without_openmmlab_and_without_torch(tmp_path):
    done = subprocess.run([sys.executable, '-c', BLOCKED, str(tmp_path)], capture_output=True, text=True,
                          env={**os.environ, 'LSEF_PLUGINS_REGISTER': '0'})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == '[]'
    assert (tmp_path / 'easy' / 'meta.json').is_file()


DECODERS = {
    'decord': [{'type': 'DecordInit'}, {'type': 'UniformSample', 'clip_len': 8, 'test_mode': True},
               {'type': 'DecordDecode'}],
    'opencv': [{'type': 'OpenCVInit'}, {'type': 'UniformSample', 'clip_len': 8, 'test_mode': True},
               {'type': 'OpenCVDecode'}],
}


@pytest.mark.parametrize('decoder', DECODERS)
def test_mmaction2_reads_every_clip_frame_by_frame_as_it_was_drawn(tmp_path, decoder):
    """VideoDataset, a sampler and a decoder of the host's, then the frames against our own reading of the file."""
    import lsef_plugins  # noqa: F401
    mmaction = pytest.importorskip('mmaction.datasets')
    from mmaction.utils import register_all_modules
    register_all_modules(init_default_scope=True)
    root = generate('easy', tmp_path, clips=(4, 2), workers=1, progress=False)
    pack = [{'type': 'FormatShape', 'input_format': 'NCTHW'}, {'type': 'PackActionInputs'}]
    data = mmaction.VideoDataset(ann_file=str(root / 'val.txt'), data_prefix={'video': str(root / 'videos')},
                                 pipeline=DECODERS[decoder] + pack, test_mode=True)
    assert len(data) == 2
    for index in range(2):
        sample, frames = data[index], decode(root / 'videos' / 'val' / f'{index:05d}.mp4')
        truth = load_truth(root / 'truth' / 'val' / f'{index:05d}.npz')
        assert sample['data_samples'].gt_label.tolist() == [truth.label]
        clips = sample['inputs'].numpy()
        assert clips.shape[1:] == (3, 8, 64, 64)
        # (c, t, h, w) against (t, h, w, c): every sampled frame is one of the file's, in order and without repeats.
        far = np.abs(clips[0].transpose(1, 2, 3, 0)[:, None].astype(int) - frames[None]).mean((2, 3, 4))
        found = far.argmin(1)
        assert far.min(1).max() < .5 and (np.diff(found) > 0).all()
        assert np.ptp(found) >= PRESETS['easy'].frames - 8
