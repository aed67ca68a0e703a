"""The one door to MMAction2: repairs first, then every registered component."""
import importlib

COMPONENTS = (
    'lsef_plugins.models',
    'lsef_plugins.datasets.clip_list',
    'lsef_plugins.datasets.emotion_clips',
    'lsef_plugins.datasets.veatic',
    'lsef_plugins.datasets.transforms.listed_frames',
    'lsef_plugins.datasets.class_balanced_sampler',
    'lsef_plugins.datasets.transforms.named_corruptions',
    'lsef_plugins.datasets.transforms.pack_affect',
    'lsef_plugins.datasets.transforms.planted_truth',
    'lsef_plugins.datasets.transforms.clean_twin',
    'lsef_plugins.datasets.transforms.video_corruption',
    'lsef_plugins.evaluation.metrics',
    'lsef_plugins.engine.hooks',
    'lsef_plugins.engine.optimizers',
)


def register_all() -> None:
    """Repair the host where its release needs it, then register each component of the pack.

    Idempotent: a second call finds the modules imported and the repairs made.

    Raises:
        ImportError: a package MMAction2 cannot run without is missing or of a version it refuses;
            the message gives the ``pip`` line.
    """
    from .compat import apply_repairs
    apply_repairs()
    for module in COMPONENTS:
        importlib.import_module(module)
