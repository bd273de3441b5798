#!/usr/bin/env bash
# Fetches what tests/conformance runs against the gateway, pinned by hash, into .venv/conformance: OpenAI's own suite
# (from the source distribution of `openai`), LangChain and LlamaIndex, and the JavaScript clients (where npm is).
# Safe to repeat: what is there already is recognised by the digest of what made it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
into=$root/.venv/conformance
pip=("$root/.venv/bin/python" -m pip --disable-pip-version-check --quiet)

made_of=$(cat "$here"/*.lock "$here/javascript/package-lock.json" "${BASH_SOURCE[0]}" | sha256sum | cut -d' ' -f1)
if [[ -f $into/made-of && $(<"$into/made-of") == "$made_of" ]]; then
  exit 0
fi
rm -rf "$into"
mkdir -p "$into/sdist" "$into/openai-python" "$into/javascript"

"${pip[@]}" download --no-binary openai --no-deps --no-build-isolation --require-hashes \
  --dest "$into/sdist" -r "$here/openai_python.lock"
tar -xzf "$into"/sdist/openai-*.tar.gz --strip-components 1 -C "$into/openai-python"
"${pip[@]}" install --no-deps --require-hashes --target "$into/python" -r "$here/frameworks.lock"
if command -v npm >/dev/null; then
  cp "$here/javascript/package.json" "$here/javascript/package-lock.json" "$into/javascript/"
  (cd "$into/javascript" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
fi
printf '%s\n' "$made_of" >"$into/made-of"
