"""Does RAO help? Plain optimizers, smoothing alone, RAO and Muon on a small recognizer, one tuning budget for each.

``clips`` keeps the synthetic clips as small frames; ``design`` says which runs there are; ``muon`` is the rival;
``train`` makes one run through MMEngine's Runner; ``run`` makes all of them, each in a process of its own; ``report``
compares.
"""
