# Sourced by quickstart.sh and run_tests.sh: make_environment SET makes $VENV with requirements/SET.txt and the package.
# Done again only when a requirements file, the packaging or the interpreter has changed.
VENV=${LSEF_VENV:-.venv}

make_environment() {
    local python=${PYTHON:-}
    if [ -z "$python" ]; then
        for candidate in python3.11 python3.12 python3.10 python3.13 python3 python; do
            if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
                python=$candidate
                break
            fi
        done
    fi
    if [ -z "$python" ]; then
        echo 'error: no Python 3.10 to 3.13 was found; install one or name it: PYTHON=/path/to/python3.11 bash ...' >&2
        exit 2
    fi
    local wanted
    wanted=$(cat requirements/quickstart.txt "requirements/$1.txt" setup.py pyproject.toml
        cat lsef_plugins/ops/builder.py lsef_plugins/ops/csrc/* | cksum  # other kernels are compiled again
        "$python" -c 'import sys; print(sys.version, sys.executable)')
    local stamp="$VENV/installed-$1"
    if [ -x "$VENV/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
        echo "== environment: $VENV is up to date"
        return
    fi
    local version='import sys; print("%d.%d" % sys.version_info[:2])'
    if [ -x "$VENV/bin/python" ] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        if [ "$("$VENV/bin/python" -c "$version")" != "$("$python" -c "$version")" ]; then
            echo "error: $VENV was made with $("$VENV/bin/python" --version), but $("$python" --version) is asked for." \
                "Delete $VENV, or choose another place: LSEF_VENV=.venv-other bash ..." >&2
            exit 2
        fi
    elif ! "$python" -m venv "$VENV"; then  # also repairs one whose making was interrupted
        echo "error: $python cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2
        exit 2
    fi
    echo "== environment: installing requirements/$1.txt into $VENV ($("$VENV/bin/python" --version))"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -r "requirements/$1.txt"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --editable .
    printf '%s\n' "$wanted" > "$stamp.partial"
    mv "$stamp.partial" "$stamp"
}
