"""Fault: parts of mmaction2 1.2.0 use names numpy 2 removed (``np.Inf``, ``np.in1d``, ``np.trapz``).

Who meets it: skeleton recipes (``PoseCompact`` in PoseC3D and RGBPose-Conv3D pipelines: ``np.Inf``), frame
extraction for the demo scripts (``np.Inf``), retrieval and localisation metrics.

Mend: those modules, and only those, see numpy through a window that still has the names. ``numpy`` itself
is left alone: other libraries ask it whether it has them.

Delete when: the oldest supported mmaction2 uses the new names.
"""
import importlib
import types

# module: {removed name: name of what replaces it}
USES = {
    'mmaction.datasets.transforms.pose_transforms': {'Inf': 'inf'},
    'mmaction.utils.misc': {'Inf': 'inf'},
    'mmaction.evaluation.functional.accuracy': {'trapz': 'trapezoid'},
    'mmaction.evaluation.metrics.multimodal_metric': {'in1d': 'isin'},
}


def reason() -> str:
    import numpy as np
    gone = sorted({old for removed in USES.values() for old in removed if not hasattr(np, old)})
    return f'MMAction2 uses names that this numpy does not have: {", ".join(gone)}' if gone else ''


def apply() -> None:
    import numpy as np
    for name, removed in USES.items():
        if all(hasattr(np, old) for old in removed):
            continue
        module = importlib.import_module(name)
        if vars(module)['np'] is np:
            vars(module)['np'] = _window(np, {old: getattr(np, new) for old, new in removed.items()})


class _Window(types.ModuleType):
    """numpy with a few more names."""

    def __getattr__(self, name):
        return getattr(self.__dict__['_numpy'], name)


def _window(numpy, names: dict) -> types.ModuleType:
    window = _Window(numpy.__name__, numpy.__doc__)
    window.__dict__.update(names, _numpy=numpy)
    return window
