"""``python -m lsef_plugins doctor`` and ``python -m lsef_plugins list``.

The package registers nothing when Python looks for this file, so that a host that cannot be imported is a finding of
the doctor and not its end.
"""
import argparse
import importlib.util
import os
import sys
from typing import List, Optional, Sequence

from .version import __version__


def parser() -> argparse.ArgumentParser:
    commands = argparse.ArgumentParser(
        prog='python -m lsef_plugins', description=f'lsef_plugins {__version__}: a low-rank stable base and sparse '
        'transients for MMAction2 recognizers.')
    chosen = commands.add_subparsers(dest='command', metavar='COMMAND')
    chosen.add_parser('doctor', help='examine this environment: versions, repairs, compiled operators, a self-test; '
                      'exit status 1 if something is broken')
    listing = chosen.add_parser('list', help='what the pack offers, one line each')
    listing.add_argument('--kind', help='only these: necks, heads, transforms ... (see the headings)')
    return commands


def main(arguments: Optional[Sequence[str]] = None) -> int:
    options = parser().parse_args(arguments)
    if options.command == 'doctor':
        return doctor()
    if options.command == 'list':
        return list_components(options.kind)
    parser().print_help()
    return 0


def doctor() -> int:
    from .doctor import examine, render
    text, healthy = render(examine())
    print('Copy everything between the lines into a bug report; names of users, homes and hosts are taken out.')
    print('-' * 80, text, '-' * 80, sep='\n')
    return 0 if healthy else 1


def list_components(kind: Optional[str] = None) -> int:
    from . import components
    if kind is not None and kind not in components.KINDS:
        print(f'There is no kind {kind!r}; choose one of {", ".join(components.KINDS)}.', file=sys.stderr)
        return 2
    found: List[components.Component] = []
    if kind not in components.PLAIN:
        absent = _register()
        if absent:
            print(absent, file=sys.stderr)
            if kind is not None:
                return 1
        else:
            found += components.registered()
    if kind not in components.REGISTERED:
        found += components.plain()
    for each in components.KINDS:
        of_kind = [component for component in found if component.kind == each]
        if of_kind and kind in (None, each):
            print(each)
            for component in of_kind:
                print(f'  {" / ".join(component.names)}: {component.summary}')
    return 0


def _register() -> str:
    """Registers the pack with MMAction2; why that is not possible, or an empty string."""
    if importlib.util.find_spec('mmaction') is None:
        return 'MMAction2 is not installed, so nothing is registered; what follows works in plain PyTorch.'
    if os.environ.get('LSEF_PLUGINS_REGISTER') == '0':
        return 'LSEF_PLUGINS_REGISTER=0 keeps MMAction2 out, so nothing is registered.'
    from .register_all import register_all
    try:
        register_all()
    except ImportError as error:
        return f'Nothing can be registered. {error}'
    return ''


def _main() -> int:
    """:func:`main`, whose reader may leave early (``| head``)."""
    try:
        status = main()
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == '__main__':
    sys.exit(_main())
