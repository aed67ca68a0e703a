"""The two lines of the README in a config, and nothing else of ours: MMAction2's own command lines do the rest."""
import os
import subprocess
import sys
from pathlib import Path

import torch

import lsef_plugins  # noqa: F401  (so that this process reads MMEngine's checkpoints)


def hosts_own(script, *arguments):
    import mmaction
    path = Path(mmaction.__file__).parent / '.mim' / 'tools' / script
    done = subprocess.run([sys.executable, '-W', 'ignore', str(path), *map(str, arguments)], capture_output=True,
                          text=True, env=dict(os.environ, OMP_NUM_THREADS='1'), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]


def test_a_recognizer_with_the_neck_trains_resumes_tests_and_infers(tiny_config, tiny_videos, tmp_path):
    config, work_dir = tmp_path / 'config.py', tmp_path / 'work'
    tiny_config(work_dir, model=dict(neck=dict(type='LSEFNeck')), train_cfg=dict(max_epochs=1)).dump(str(config))
    assert config.read_text().count('lsef_plugins') == 1  # the custom_imports of tiny_config
    hosts_own('train.py', config)
    hosts_own('train.py', config, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    first, second = (torch.load(work_dir / f'epoch_{n}.pth')['state_dict'] for n in (1, 2))
    merge = 'neck.streams.0.cim.out.weight'
    assert first[merge].abs().max() > 0 and not torch.equal(first[merge], second[merge])
    hosts_own('test.py', config, work_dir / 'epoch_2.pth')

    from mmaction.apis import inference_recognizer, init_recognizer
    model = init_recognizer(str(config), str(work_dir / 'epoch_2.pth'), device='cpu')
    assert torch.equal(model.state_dict()[merge], second[merge])
    with_neck = inference_recognizer(model, str(tiny_videos.root / 'clip_0.mp4')).pred_score
    torch.testing.assert_close(with_neck.sum(), torch.tensor(1.0))
    torch.nn.init.normal_(model.neck.streams[0].cim.out.weight)
    assert not torch.equal(inference_recognizer(model, str(tiny_videos.root / 'clip_0.mp4')).pred_score, with_neck)
