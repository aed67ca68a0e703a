"""The end of a job of several processes. To be imported before the job's process group exists."""
from __future__ import annotations

import gc

import torch.distributed as dist

if dist.is_available():
    # DistributedDataParallel imports it once a group exists: its functions then have that group among their defaults,
    # and hold it to the end of the process.
    import torch.distributed.nn.functional  # noqa: F401

__all__ = ['leave_job']


def leave_job() -> None:
    """Leave the process group, if there is one, and end its threads, once all work is done and no one holds the runner.

    A thread of gloo that still holds a tensor of Python's when the interpreter ends aborts the process ("terminate
    called without an active exception"; pytorch#179291): a job that went well counts as failed and is started again.
    The threads end with the last reference to the group. A model in DistributedDataParallel has one, hence the garbage
    collection; of what fully_shard keeps of the group it is not rid.
    """
    gc.collect()
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
