"""What dist_train.sh and dist_test.sh run: one process of tools/train.py or tools/test.py for each GPU, by torchrun.

Only PyTorch is imported here: what is wrong with the command is told at once, and once, not by every process.
"""
from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import List, Mapping, NamedTuple, Optional, Sequence

HERE = Path(__file__).resolve().parent
USAGE = {
    'train': 'bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]',
    'test': 'bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]',
}


class UsageError(ValueError):
    """The command or the variables around it cannot work; the message says what and how to go on."""


class Job(NamedTuple):
    """One machine's part of a job."""
    task: str
    files: List[str]        # the config, and for a test the checkpoint
    gpus: int
    options: List[str]
    nodes: int
    node_rank: int
    address: str
    port: Optional[int]     # None: torchrun takes a free one
    restarts: int

    @property
    def command(self) -> List[str]:
        """The arguments of torchrun."""
        if self.port is None:
            meeting = ['--standalone']
        elif self.restarts == 0:
            meeting = [f'--nnodes={self.nodes}', f'--node_rank={self.node_rank}', f'--master_addr={self.address}',
                       f'--master_port={self.port}']
        else:   # only this rendezvous tells the other machines that one of them starts its processes again
            meeting = [f'--nnodes={self.nodes}', '--rdzv_backend=c10d', f'--rdzv_endpoint={self.address}:{self.port}',
                       f'--rdzv_id=lsef-{self.port}', f'--rdzv_conf=is_host={int(self.node_rank == 0)}']
        return [*meeting, f'--nproc_per_node={self.gpus}', f'--max_restarts={self.restarts}',
                str(HERE / f'{self.task}.py'), *self.files, '--launcher', 'pytorch', *self.options]


def job_of(task: str, arguments: Sequence[str], variables: Mapping[str, str]) -> Job:
    """The job of a command line and of NNODES, NODE_RANK, MASTER_ADDR, PORT and MAX_RESTARTS.

    Raises:
        UsageError: it cannot work.
    """
    files = 1 if task == 'train' else 2
    if len(arguments) <= files or arguments[0] in ('-h', '--help'):
        raise UsageError(f'usage: {USAGE[task]}')
    gpus = _number('GPUS, the number of processes on this machine,', arguments[files], 1,
                   f'. usage: {USAGE[task]}')
    for kind, path in zip(('Config file', 'Checkpoint'), arguments[:files]):
        if '://' not in path and not Path(path).expanduser().exists():
            raise UsageError(f'{kind} {path} does not exist (looked from {os.getcwd()}).')
    nodes = _number('NNODES, the number of machines,', variables.get('NNODES') or '1', 1)
    node_rank = _number('NODE_RANK, the number of this machine,', variables.get('NODE_RANK') or '0', 0)
    if node_rank >= nodes:
        raise UsageError(f'NODE_RANK={node_rank} came with NNODES={nodes}: machines are numbered from 0 to NNODES - 1. '
                         'Set NNODES to the number of all machines, the same on each.')
    if node_rank > 0 and not variables.get('MASTER_ADDR'):
        raise UsageError(f'NODE_RANK={node_rank} needs MASTER_ADDR, the address of the machine with NODE_RANK=0.')
    restarts = _number('MAX_RESTARTS, how often a killed job starts again,', variables.get('MAX_RESTARTS') or '0', 0)
    options = list(arguments[files + 1:])
    if task == 'train' and restarts:
        _must_resume(options, restarts)
    port = variables.get('PORT') or ('29500' if nodes > 1 else None)
    return Job(task, list(arguments[:files]), gpus, options, nodes, node_rank,
               variables.get('MASTER_ADDR') or '127.0.0.1',
               None if port is None else _number('PORT', port, 1, largest=65535), restarts)


def _number(what: str, value: str, least: int, more: str = '', largest: Optional[int] = None) -> int:
    limits = f'from {least} to {largest}' if largest else f'{least} or more'
    if not (value.isascii() and value.isdigit() and least <= int(value) <= (largest or sys.maxsize)):
        raise UsageError(f'{what} must be a number, {limits}; {value!r} came{more}')
    return int(value)


def _must_resume(options: Sequence[str], restarts: int) -> None:
    places = [i for i, option in enumerate(options) if option.split('=')[0] == '--resume']
    if not places:
        raise UsageError(f'MAX_RESTARTS={restarts} needs --resume, or processes that start again would begin from '
                         'nothing. With an empty work_dir --resume begins from the beginning.')
    place = places[-1]
    path = options[place].partition('=')[2] or (options[place + 1] if place + 1 < len(options) else '')
    if path and path != 'auto' and not path.startswith('-'):
        raise UsageError(f'MAX_RESTARTS={restarts} needs --resume without a path: with {path} every start would go '
                         'back there, whatever has been trained since. To begin there, write that path into '
                         'WORK_DIR/last_checkpoint.')


def check_machine(job: Job) -> None:
    """Raises UsageError where this machine lacks the GPUs, or something else holds the port."""
    import torch
    there = torch.cuda.device_count() if torch.cuda.is_available() else None
    if there is not None and job.gpus > there:
        shown = os.environ.get('CUDA_VISIBLE_DEVICES')
        raise UsageError(f'GPUS={job.gpus} was asked for, but this machine shows {there}'
                         f'{"" if shown is None else f" (CUDA_VISIBLE_DEVICES={shown})"}. Ask for at most {there}; '
                         'more machines: NNODES. On the CPU instead: CUDA_VISIBLE_DEVICES= (empty).')
    if job.port is None or job.node_rank != 0:
        return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(('', job.port))
        except OSError as error:
            alone = '' if job.nodes > 1 else '; leave PORT out and a free one is taken'
            raise UsageError(f'PORT={job.port} cannot be used on this machine ({error.strerror}), perhaps by another '
                             f'job. Choose another, the same on all machines{alone}.') from error


def run(job: Job) -> int:
    """Runs the job; its exit status, after a last line that says why it ended where it did not end well."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args
    from torch.distributed.run import run as torchrun
    if job.restarts:
        # Else torch 2.4 and later keep one store for all starts (pytorch issue 135712), and processes that start again
        # find the addresses of those that are gone: "Connection refused".
        os.environ['TORCH_DISABLE_SHARE_RDZV_TCP_STORE'] = '1'
    try:
        torchrun(parse_args(job.command))
        return 0
    except ChildFailedError as error:
        return _ended(1, f'{_cause(error.failures)}{_restarted(job)}. {_go_on(job)}')
    except SignalException as error:
        return _ended(128 + error.sigval, f'{signal.Signals(error.sigval).name} came; the processes were ended. '
                                          f'{_go_on(job)}')
    except RuntimeError as error:   # the errors of stores and of the rendezvous are of this kind
        if job.nodes == 1:
            raise
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return _ended(1, f'the {job.nodes} machines did not meet or lost each other ({first}). Each needs the same '
                         'NNODES, MASTER_ADDR and PORT, a NODE_RANK of its own, and a way through the firewall.')


def _ended(status: int, message: str) -> int:
    print(f'error: {message}', file=sys.stderr, flush=True)
    return status


def _cause(failures: Mapping) -> str:
    """The failure the others follow from, in words: those that torchrun ended itself have SIGTERM."""
    rank, failure = min(failures.items(), key=lambda each: (
        each[1].exitcode == -signal.SIGTERM, each[1].exitcode >= 0, each[1].timestamp, each[0]))
    if failure.exitcode >= 0:
        return f'process {rank} ended with status {failure.exitcode}; what it said stands above'
    name = failure.signal_name()
    memory = ' (kill -9, or the system ran out of memory)' if name == 'SIGKILL' else ''
    return f'process {rank} (pid {failure.pid}) was killed by {name}{memory}, and the others were ended'


def _restarted(job: Job) -> str:
    return f', after MAX_RESTARTS={job.restarts} starts from the newest checkpoint' if job.restarts else ''


def _go_on(job: Job) -> str:
    if job.task != 'train':
        return 'Start the test again when that is mended.'
    return 'To go on from the newest checkpoint: the same command with --resume.'


def main(argv: Optional[Sequence[str]] = None) -> int:
    task, *arguments = sys.argv[1:] if argv is None else argv
    try:
        job = job_of(task, arguments, os.environ)
        check_machine(job)
    except UsageError as error:
        told = str(error)
        print(told if told.startswith('usage') else f'error: {told}', file=sys.stderr)
        return 2
    return run(job)


if __name__ == '__main__':
    sys.exit(main())
