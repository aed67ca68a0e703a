"""What the studies share: clips as small arrays, where every training starts, Muon, and runs that are files.

A study on top of it says which runs there are (``design``), makes one (``train``) and compares (``report``).
"""
