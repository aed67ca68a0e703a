"""What the tests of the studies share."""
import pytest


@pytest.fixture
def few_clips(tmp_path, monkeypatch):
    """A folder for clips and a start as the studies make them, but few."""
    from lsef_plugins.engine.studies import clips, start
    monkeypatch.setattr(clips, 'SPLITS', {
        'train': ('train', 0, 14), 'tune': ('val', 0, 7), 'test': ('val', 7, 7), 'fresh': ('val', 14, 7)})
    for name, value in (('CLIPS', 4), ('STEPS', 2), ('BATCH', 2)):
        monkeypatch.setattr(start, name, value)
    return tmp_path
