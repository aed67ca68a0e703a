"""MMAction2's own inferencers take plugged configs, and tell ratings."""
import numpy as np
import pytest


def test_classes_are_those_of_our_inferencer(tiny_door, inferencer, clip):
    from mmaction.apis import ActionRecogInferencer, MMAction2Inferencer
    own = list(inferencer(tiny_door.video, progress=False).scores.values())
    rec = MMAction2Inferencer(rec=tiny_door.config, rec_weights=tiny_door.checkpoint, device='cpu')
    for found in (rec(tiny_door.video), rec([tiny_door.video] * 2, batch_size=2)):
        for each in found['predictions']:
            assert each['rec_labels'] == [[int(np.argmax(own))]]
            np.testing.assert_allclose(each['rec_scores'][0], own, atol=1e-6)
    array = ActionRecogInferencer(tiny_door.config, tiny_door.checkpoint, device='cpu', input_format='array')
    assert array(clip)['predictions'][0]['pred_scores'] == own
    short = inferencer(clip[:5], progress=False)            # frames are repeated
    assert array(clip[:5])['predictions'][0]['pred_scores'] == list(short.scores.values()) != own


@pytest.mark.parametrize('frames', [None, 4])
def test_ratings_are_told_by_their_names(tiny_door, frames, tmp_path):
    from mmaction.apis import MMAction2Inferencer

    from lsef_plugins.apis import LSEFInferencer

    def rated(cfg):
        cfg.model.cls_head = dict(type='ValenceArousalHead', in_channels=64, num_frames=frames)
    files = tiny_door.build(tmp_path, rated)
    found = MMAction2Inferencer(*files, device='cpu')(tiny_door.video, pred_out_file=str(tmp_path / 'told.json'))
    prediction, = found['predictions']
    assert prediction['rec_labels'] == [['valence', 'arousal']]
    ratings = np.reshape(prediction['rec_scores'][0], (-1, 2))
    own = LSEFInferencer(*files)(tiny_door.video, progress=False)
    assert len(ratings) == (frames or 1) and (tmp_path / 'told.json').stat().st_size > 50
    np.testing.assert_allclose([own.valence, own.arousal], ratings.mean(0), rtol=1e-5)
