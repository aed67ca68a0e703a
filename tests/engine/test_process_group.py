"""The threads of a process group end with a job's work, not with its process."""

JOB = """
from lsef_plugins.engine.process_group import leave_job
import torch

def work():
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
    model.itself = model
    model(torch.ones(2, 3)).sum().backward()
    seen.extend(gloo_threads())

leave_job()         # of no group: nothing to do
dist.init_process_group('gloo')
work()
leave_job()
"""


def test_no_thread_outlives_a_group_that_a_model_held(ends_its_gloo_threads):
    # Without OpenMMLab, which imports torch.distributed.nn by chance, and then before the group exists.
    ends_its_gloo_threads(JOB, LSEF_PLUGINS_REGISTER='0')
