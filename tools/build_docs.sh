#!/usr/bin/env bash
# bash tools/build_docs.sh [options of sphinx-build]
# Makes an environment (.venv; LSEF_VENV chooses another place, PYTHON the interpreter), builds the site into site/ with
# warnings as errors, and checks every internal link and anchor of what was built. Nothing is fetched while it is built or read.
set -euo pipefail
cd "$(dirname "$0")/.."
source tools/environment.sh
make_environment docs
rm -rf site     # a page that has gone must not be found by a link
"$VENV/bin/python" -m sphinx --builder html --conf-dir docs --doctree-dir work_dirs/doctrees --fail-on-warning --keep-going \
    --quiet "$@" . site
"$VENV/bin/python" tools/check_site.py site
