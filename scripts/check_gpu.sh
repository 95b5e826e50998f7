#!/usr/bin/env bash
# What only a GPU can show: the CUDA tests, training's rate beside the card's limit, and where the demo's time goes.
# Needs a python (PYTHON) with torch for CUDA and weldnet's dependencies; reports which of these are missing. Six minutes.
#
#     scripts/check_gpu.sh [rates] [tests] [demo]        all three without arguments; figures go to $OUT, else ./gpu
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3}
out=${OUT:-gpu}
mkdir -p "$out"
parts=${*:-rates tests demo}
started=$SECONDS

"$python" - <<'PYTHON_END'
import sys, tomllib
from importlib.metadata import PackageNotFoundError, version
from packaging.requirements import Requirement
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
missing = []
for each in map(Requirement, [*project["dependencies"], "pytest", "pytest-xdist", "setuptools>=77"]):
    try:
        if not each.specifier.contains(version(each.name), prereleases=True):
            print(f"check_gpu.sh: {each.name} {version(each.name)} is there, {each} is asked for; trying all the same")
    except PackageNotFoundError:
        missing.append(str(each))
if missing:
    sys.exit("check_gpu.sh: not installed: " + " ".join(f"'{each}'" for each in missing))
import torch
if not torch.cuda.is_available():
    sys.exit("check_gpu.sh: torch finds no CUDA device")
print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, Python {sys.version.split()[0]}")
PYTHON_END

# Nothing is fetched: what weldnet needs is there. An old setuptools cannot install it; links do as well.
bin=$("$python" -c "import os, sys; print(os.path.dirname(sys.executable))")
if ! { "$python" -c "import weldnet.configs" && [[ -x $bin/weldnet-train ]]; } 2>/dev/null &&
    ! "$python" -m pip install --quiet --no-index --no-deps --no-build-isolation --editable . 2>"$out/pip.log"; then
    site=$(mktemp -d)
    mkdir "$site/weldnet" "$site/weldnet-0.1.0.dist-info"
    ln -s "$PWD"/weldnet/* "$PWD/configs" "$site/weldnet/"
    printf 'Metadata-Version: 2.1\nName: weldnet\nVersion: 0.1.0\n' >"$site/weldnet-0.1.0.dist-info/METADATA"
    printf '#!%s\nfrom weldnet.commands.train import main\nmain()\n' "$bin/$(basename "$python")" >"$bin/weldnet-train"
    chmod +x "$bin/weldnet-train"
    export PYTHONPATH=$site:${PYTHONPATH:-}
    echo "check_gpu.sh: weldnet by links in $site ($(tail -n 1 "$out/pip.log"))"
fi
export PYTHONUNBUFFERED=1
failed=0
for part in $parts; do
    echo "== $part, after $((SECONDS - started)) s"
    case $part in
        tests)
            # Other versions of packages may warn of other things. -P keeps the current folder from hiding the links.
            "$python" -P -m pytest -q -W default --disable-warnings -n 8 -p no:cacheprovider -k "gpu and not without" --durations=5 \
                tests/model/test_cuda_graph.py tests/training/test_no_waits.py tests/commands/test_train_on_device.py ||
                failed=1
            ;;
        rates) "$python" scripts/benchmark.py device json="$out/rates.json" || failed=1 ;;
        demo)
            WELDNET_CACHE=$(mktemp -d) "$python" scripts/sampling.py weldnet-train experiment=demo trainer=gpu \
                output_dir="${TMPDIR:-/tmp}/demo_$$" || failed=1
            ;;
        *) echo "check_gpu.sh: unknown part '$part'; allowed: rates, tests, demo" >&2; exit 2 ;;
    esac
done
echo "== done after $((SECONDS - started)) s$([[ $failed -eq 0 ]] || echo ', with failures')"
exit $failed
