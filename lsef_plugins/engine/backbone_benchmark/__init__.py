"""What the neck costs in the host's recognizers at their real size: parameters, FLOPs, time and memory.

``choose`` finds the configs; ``settings`` is what the measurement is asked for; ``pair`` builds a recognizer with and
without the neck, and its inputs; ``measure`` makes one row; ``run`` makes all rows, each in a process of its own;
``report`` writes the table.
"""
