"""Packaging entry; settings of the tools live in pyproject.toml.

``LSEF_BUILD_OPS`` in the environment: ``auto`` (default) builds the compiled operators where a compiler and torch are
at hand and installs without them elsewhere, ``1`` stops where they cannot be built, ``0`` does not try.
"""
import os
import runpy
import shutil
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.dist import Distribution

HERE = Path(__file__).resolve().parent
# What mim and MMEngine look for inside an installed package, under .mim, and where it lies in the checkout.
MIM = {'configs': 'mmaction_configs', 'tools': 'tools'}
# These make or check environments from a checkout; an installed package is none.
CHECKOUT_TOOLS = ('quickstart.py', 'quickstart.sh', 'environment.sh', 'run_tests.sh', 'gpu_checks.sh', 'check_wheel.sh',
                  'coverage.sh', 'build_docs.sh', 'check_site.py')
BUILD_OPS = os.environ.get('LSEF_BUILD_OPS', 'auto')
VERSION: dict = {}
exec((HERE / 'lsef_plugins' / 'version.py').read_text(encoding='utf-8'), VERSION)


class BuildWithMore(build_py):
    """Adds configs and tools for mim, and the compiled operators; in the source tree for an editable install."""

    def run(self):
        if BUILD_OPS not in ('auto', '1', '0'):
            sys.exit(f'LSEF_BUILD_OPS={BUILD_OPS} is unknown; set it to auto, 1 or 0.')
        super().run()
        editable = getattr(self, 'editable_mode', False)
        root = HERE if editable else Path(self.build_lib)
        self.add_mim(root / 'lsef_plugins' / '.mim', editable)
        self.add_operators(root / 'lsef_plugins' / 'ops', editable)

    def add_mim(self, folder, editable):
        folder.mkdir(exist_ok=True)
        for name, source in MIM.items():
            target = folder / name
            if editable:
                if not target.exists():     # the checkout has these links; an unpacked sdist does not
                    target.symlink_to(os.path.relpath(str(HERE / source), str(folder)))
                continue
            shutil.rmtree(str(target), ignore_errors=True)
            shutil.copytree(str(HERE / source), str(target),
                            ignore=shutil.ignore_patterns('__pycache__', *CHECKOUT_TOOLS))

    def add_operators(self, package, editable):
        if not editable:
            # A package holds the library of its own build or none: not one that lay in the checkout or in build/.
            shutil.rmtree(str(package / '_lib'), ignore_errors=True)
        if BUILD_OPS == '0':
            return
        builder = runpy.run_path(str(HERE / 'lsef_plugins' / 'ops' / 'builder.py'))
        try:
            builder['build'](package)
        except builder['BuildError'] as error:
            if BUILD_OPS == '1':
                sys.exit(f'LSEF_BUILD_OPS=1, but the operators of lsef_plugins cannot be built: {error}')
            print(f'lsef_plugins is installed without compiled operators: {error}', file=sys.stderr)


class PlatformDistribution(Distribution):
    """With compiled operators a wheel fits one platform, though any Python."""

    def has_ext_modules(self):
        return BUILD_OPS != '0'


def wheel_tag():
    """The wheel command whose tag names no Python; the library holds no symbol of one."""
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:     # setuptools before 70.1
        try:
            from wheel.bdist_wheel import bdist_wheel
        except ImportError:
            return {}

    class AnyPython(bdist_wheel):

        def get_tag(self):
            return ('py3', 'none', super().get_tag()[2])

    return {'bdist_wheel': AnyPython}


setup(
    name='lsef_plugins',
    version=VERSION['__version__'],
    description='Low-rank stable base and sparse transients: a plug-in neck for MMAction2 recognizers',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['lsef_plugins', 'lsef_plugins.*']),
    package_data={'lsef_plugins': ['.mim/model-index.yml'], 'lsef_plugins.ops': ['csrc/*', '_lib/*.so']},
    cmdclass={'build_py': BuildWithMore, **wheel_tag()},
    distclass=PlatformDistribution,
    python_requires='>=3.9',
    # No upper bounds and no OpenMMLab package here: installing the pack never replaces what a user has.
    # importlib_metadata is imported by mmaction2 1.2.0 without being declared there.
    install_requires=['torch>=2.1', 'einops>=0.6', 'numpy', 'importlib_metadata'],
    extras_require={
        # Reading and drawing clips without OpenMMLab: lsef_plugins.visualization, lsef_plugins.datasets.synthetic.
        'viz': ['opencv-python', 'matplotlib'],
        # mmcv-lite and mmcv share one import name: only those who have neither want this extra.
        'mmaction': ['mmaction2>=1.2', 'mmengine>=0.10.3', 'mmcv-lite>=2.1,<2.2'],
    },
    classifiers=[
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
)
