"""Builds the compiled operators: ``python -m lsef_plugins.ops.build``. How: :mod:`lsef_plugins.ops.builder`."""
from .builder import main

if __name__ == '__main__':
    main()
