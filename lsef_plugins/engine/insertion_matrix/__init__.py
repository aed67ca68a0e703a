"""Every recognizer config the host ships, stock against plugged: does the one line ``neck=dict(type=...)`` hold?

``catalogue`` finds the configs and sorts them into families; ``views`` reads from a config how many views its test
has; ``shrink`` makes model and inputs small by rule; ``inputs`` fills them; ``checks`` are the columns of the table;
``examine`` makes one row; ``run`` makes all rows, each in a process of its own; ``report`` writes the table.
"""
