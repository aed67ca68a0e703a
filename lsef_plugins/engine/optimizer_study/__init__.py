"""Does RAO help? Plain optimizers, smoothing alone, RAO and Muon on a small recognizer, one tuning budget for each.

``design`` says which runs there are; ``train`` makes one through MMEngine's Runner; ``run`` makes all of them;
``report`` compares. Clips, start, Muon and the files of runs: :mod:`lsef_plugins.engine.studies`.
"""
