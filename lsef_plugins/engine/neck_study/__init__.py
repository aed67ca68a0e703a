"""Is LSEF better than what else fits between a backbone and its head? One recipe, one budget, one tuning for each.

``rivals`` and ``statistics_head`` are what LSEF is compared with; ``budget`` gives all of them as many parameters;
``design`` says which runs there are; ``conditions`` breaks the test clips; ``train`` makes one run through MMEngine's
Runner; ``run`` makes all of them; ``report`` compares.
"""
