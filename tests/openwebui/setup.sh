#!/usr/bin/env bash
# Makes the environment of the real Open WebUI that tests/openwebui drives: .venv-openwebui in the repository's root.
# Safe to repeat and to interrupt: a finished environment is recognised by the digest of what made it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$(cd "$here/../.." && pwd)/.venv-openwebui
python=${PYTHON:-python3}

say() { printf 'Open WebUI environment: %s\n' "$*"; }

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))'; then
  say "$python is $("$python" --version 2>&1); Open WebUI needs Python 3.11 or 3.12: set PYTHON=..." >&2
  exit 1
fi

made_of=$(cat "$here/requirements.lock" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)
if [[ -f $venv/made-of && $(<"$venv/made-of") == "$made_of" ]]; then
  say "ready in $venv"
  exit 0
fi

say "making $venv with $("$python" --version) (about 3 GB, some minutes, once)"
rm -f "$venv/made-of"
"$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq install --no-deps --no-compile --progress-bar off)
torch_index=(--extra-index-url https://download.pytorch.org/whl/cpu)
"${pip[@]}" --retries 0 "${torch_index[@]}" torch==2.13.0 2>/dev/null || "${pip[@]}" "${torch_index[@]}" torch==2.13.0
"${pip[@]}" --require-hashes -r "$here/requirements.lock"
printf '%s\n' "$made_of" >"$venv/made-of"
say "ready in $venv"
