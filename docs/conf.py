"""The site: ``bash tools/build_docs.sh``. Pages are Markdown (MyST), the API reference comes from the docstrings.

The source folder is the whole checkout, so that the links between README.md, docs/ and the pages beside configs and
tools are the same here and on a code host. Nothing is fetched when the site is built or read: MathJax is in a wheel.
"""
import pkgutil
import runpy
import sys
from importlib import import_module
from pathlib import Path

import lsef_plugins  # noqa: F401  (first: it repairs the host)

ROOT = Path(__file__).resolve().parents[1]
API = ROOT / 'docs' / 'api'

project = 'lsef_plugins'
author = 'the authors of lsef_plugins'
copyright = 'the authors of lsef_plugins, Apache-2.0'
release = version = runpy.run_path(str(ROOT / 'lsef_plugins' / 'version.py'))['__version__']

extensions = ['myst_parser', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.mathjax',
              'sphinx-mathjax-offline']
root_doc = 'docs/index'
include_patterns = ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md', 'docs/*.md', 'docs/api/*.rst',
                    'mmaction_configs/*/README.md', 'tools/data/*/README.md']
exclude_patterns = ['.*', '**/.*', 'data', 'work_dirs', 'build', 'dist', 'tests', 'lsef_plugins', '**/__pycache__']

myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 4
myst_dmath_double_inline = True

html_theme = 'furo'
html_title = f'lsef_plugins {release}'
html_extra_path = ['_site']
html_static_path = []
html_theme_options = {'navigation_with_keys': True}
highlight_language = 'none'

autodoc_default_options = {'members': True, 'show-inheritance': True, 'member-order': 'bysource'}
autodoc_typehints = 'signature'
autodoc_typehints_format = 'short'
autodoc_preserve_defaults = True
autodoc_inherit_docstrings = False
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_custom_sections = ['Shape', 'Source']
napoleon_use_rtype = False
napoleon_use_param = False       # 'sem, ddm, cim: ...' is one entry, not three with the same words
python_use_unqualified_type_names = True

PACKAGES = {
    'functional': 'Formulas of tensors without state; plain PyTorch.',
    'nn': 'SEM, DDM, CIM and LSEF as modules; plain PyTorch.',
    'ops': 'Formulas that read whole feature maps, each with a compiled body.',
    'optim': 'The mathematics of RAO; plain PyTorch.',
    'models': 'Necks, heads and losses for MMAction2, and where they are placed.',
    'engine': 'RAO as a constructor, hooks, training, export, studies.',
    'datasets': 'DFEW, FERV39k, VEATIC, the embedded faces, transforms and corruptions.',
    'evaluation': 'Formulas of metrics with numpy alone, and the registered metrics.',
    'visualization': 'Pictures, reports and curves.',
    'compat': 'Repairs of other people\'s releases, one file each.',
}


def packages_below(name):
    """A package of the pack and all packages inside it, by their dotted names."""
    package = import_module(name)
    yield package
    for info in pkgutil.iter_modules(package.__path__, f'{name}.'):
        if info.ispkg:
            yield from packages_below(info.name)


def page_of(package, taken):
    """One page: what the package exports under its public name, then each of its modules with the rest.

    ``taken``: names that have a place already, by their module; an object has one place, that of the outermost
    package that exports it. A function that is called like its module stays in the module.
    """
    modules = [info.name for info in pkgutil.iter_modules(package.__path__, f'{package.__name__}.') if not info.ispkg]
    exported = [(name, getattr(package, name)) for name in getattr(package, '__all__', [])
                if f'{package.__name__}.{name}' not in sys.modules]
    exported = [(name, each) for name, each in exported if getattr(each, '__module__', '').startswith(package.__name__)]
    title = package.__name__
    lines = [title, '=' * len(title), '', f'.. automodule:: {title}', '   :no-members:', '']
    for name, each in exported:
        kind = 'class' if isinstance(each, type) else 'function' if callable(each) else 'data'
        if kind != 'data' and each.__name__ == name and name not in taken.get(each.__module__, []):
            taken.setdefault(each.__module__, []).append(name)
            lines += [f'.. auto{kind}:: {package.__name__}.{name}', '']
    for name in modules:
        module = import_module(name)
        elsewhere = [each for each in getattr(module, '__all__', [])
                     if getattr(getattr(module, each), '__module__', name) != name]
        lines += [name, '-' * len(name), '', f'.. automodule:: {name}']
        if elsewhere or taken.get(name):
            lines.append(f'   :exclude-members: {", ".join([*elsewhere, *taken.get(name, [])])}')
        lines.append('')
    return '\n'.join(lines)


def write_api_pages(app=None):
    """docs/api/*.rst, git-ignored: a page for each package and an index. Files that stay the same are not touched."""
    pages = {}
    index = ['API reference', '=============', '',
             'From the docstrings. The lower four speak PyTorch alone; the others MMAction2.', '']
    for short, words in PACKAGES.items():
        names, taken = [], {}
        for package in packages_below(f'lsef_plugins.{short}'):
            pages[f'{package.__name__}.rst'] = page_of(package, taken)
            names.append(package.__name__)
        index += [short, '-' * len(short), '', words, '', '.. toctree::', '   :maxdepth: 1', '']
        index += [*(f'   {name}' for name in names), '']
    pages['index.rst'] = '\n'.join(index)
    API.mkdir(exist_ok=True)
    for stale in set(API.glob('*.rst')) - {API / name for name in pages}:
        stale.unlink()
    for name, text in pages.items():
        path = API / name
        if not path.exists() or path.read_text('utf-8') != text:
            path.write_text(text, 'utf-8')


write_api_pages()
