#!/usr/bin/env bash
# bash tools/check_wheel.sh [packages to install first, such as torch==2.13.0]
# Builds the sdist and from it the wheel, installs the wheel into a fresh environment, and there, outside the checkout,
# imports every module and runs the doctor and the list. PYTHON chooses the interpreter; EXTRAS what of the package is
# installed with it (for example EXTRAS='[mmaction]'); CXX and LSEF_BUILD_OPS act as in any install.
set -euo pipefail
root=$(CDPATH= cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check build setuptools wheel "$@"
echo "== building ($("$python" --version))"
# Without isolation, so that the operators are built where torch is at hand.
"$python" -m build --no-isolation --outdir "$work/dist" "$root" > "$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
grep 'installed without compiled operators' "$work/build.log" || true
ls "$work/dist"
echo '== installing'
"$python" -m pip install --quiet --disable-pip-version-check "$(echo "$work"/dist/*.whl)${EXTRAS:-}"
mkdir "$work/elsewhere"
cd "$work/elsewhere"
echo '== importing every module'
"$python" "$root/tests/import_every_module.py"
"$python" -m lsef_plugins list > list.txt
"$python" -m lsef_plugins doctor
