"""Packaging entry; settings of the tools live in pyproject.toml."""
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION: dict = {}
exec((HERE / 'lsef_plugins' / 'version.py').read_text(encoding='utf-8'), VERSION)

setup(
    name='lsef_plugins',
    version=VERSION['__version__'],
    description='Low-rank stable base and sparse transients: a plug-in neck for MMAction2 recognizers',
    long_description=(HERE / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['lsef_plugins', 'lsef_plugins.*']),
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
