"""Imports every module of the installed package: ``python tests/import_every_module.py [--json FILE]``.

Which package that is, is left to Python: started as a script, this file does not bring the checkout. A module may ask
for a package that is not installed and that the pack does not require; any other error is one, and makes exit status 1.
"""
import argparse
import importlib
import json
import pkgutil
import sys
import traceback
import warnings
from typing import Dict

# What install_requires does not name: OpenMMLab, drawing, exporting, the numpy half's optional helpers.
OPTIONAL = ('mmaction', 'mmengine', 'mmcv', 'mmpretrain', 'cv2', 'matplotlib', 'decord', 'onnx', 'onnxscript',
            'onnxruntime', 'PIL', 'scipy', 'yaml')


def import_all() -> Dict[str, str]:
    """Module to ``''``, to ``'needs PACKAGE'``, or to its traceback."""
    package = importlib.import_module('lsef_plugins')
    found = {}
    for info in pkgutil.walk_packages(package.__path__, 'lsef_plugins.', onerror=lambda name: None):
        if info.name.endswith('.__main__'):
            continue
        try:
            importlib.import_module(info.name)
            found[info.name] = ''
        except ModuleNotFoundError as error:
            missing = (error.name or '').split('.')[0]
            found[info.name] = f'needs {missing}' if missing in OPTIONAL else traceback.format_exc()
        except Exception:
            found[info.name] = traceback.format_exc()
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', help='write what was found to this file')
    options = parser.parse_args()
    warnings.simplefilter('ignore')
    found = import_all()
    import lsef_plugins
    broken = {name: text for name, text in found.items() if text and not text.startswith('needs ')}
    needing = sorted({text for text in found.values() if text.startswith('needs ')})
    for name, text in broken.items():
        print(f'{name}\n{text}', file=sys.stderr)
    print(f'{lsef_plugins.__file__}: {len(found)} modules, {sum(not text for text in found.values())} imported, '
          f'{len(broken)} broken; the others: {", ".join(needing) or "none"}')
    if options.json:
        with open(options.json, 'w', encoding='utf-8') as file:
            json.dump(found, file)
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
