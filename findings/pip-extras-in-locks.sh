#!/usr/bin/env bash
# pip with --require-hashes: does `coverage==7.2.0` in a lock cover a package that asks for `coverage[toml]`?
#
# Guess: yes, a pin is a pin. What happens: pip 23.2.1 (which CPython 3.11.5 to 3.11.7 and 3.12.0 to 3.12.1 put into new
# environments) takes the *newest* coverage for `coverage[toml]`, finds no hash for it, and refuses the whole lock; so a
# lock that worked stops working on the day when a newer coverage is published. pip 23.3 takes the pin. `uv pip compile`
# writes such locks unless it is told --no-strip-extras, and installs them itself, so its users do not notice.
#
# Says ok if it is still so, and fails if not. Needs python3 (3.11 to 3.13) and PyPI; writes to a temporary folder only.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
pip() { env/bin/python -m pip --disable-pip-version-check "$@"; }

pip download --quiet --no-deps --only-binary :all: --dest wheels \
    pytest-cov==4.1.0 coverage==7.3.0 pytest==7.4.0 iniconfig==2.0.0 packaging==23.1 pluggy==1.2.0
for wheel in wheels/*.whl; do
    file=${wheel##*/} && name=${file%%-*} && rest=${file#*-}
    echo "${name//_/-}==${rest%%-*} $(pip hash "$wheel" | grep -o -- '--hash=.*')"
done > stripped.lock
sed 's/^coverage==/coverage[toml]==/' stripped.lock > whole.lock

try() { # pip's version, lock, what is expected: "takes" or "refuses"
    pip install --quiet "pip==$1"
    if pip install --quiet --dry-run --require-hashes --only-binary :all: --requirement "$2" > out 2>&1; then
        did=takes
    elif grep -q 'coverage\[toml\]>=5.2.1 from' out && ! grep -q 'coverage-7.3.0' out; then
        did=refuses
    else
        cat out; exit 1
    fi
    echo "$(python3 --version), pip $1 $did $2 (pytest-cov 4.1.0 asks for coverage[toml]; coverage 7.3.0 is pinned)"
    [ "$did" = "$3" ] || { echo "that was different: expected that it $3 it"; exit 1; }
}
try 23.2.1 stripped.lock refuses
try 23.2.1 whole.lock takes
try 23.3 stripped.lock takes
echo ok
