#!/bin/sh
# Prometheus and Alertmanager for the tests, unpacked from Debian's packages into .venv/services. Needs no root and
# changes nothing outside of that folder; apt checks what it downloads.
#
#     sh tests/services/install.sh
#
# Elsewhere than on Debian or Ubuntu: put prometheus, promtool, alertmanager and amtool on the path, and nothing is
# downloaded (https://prometheus.io/download/).
set -eu
cd "$(dirname "$0")/../.."
folder="$PWD/.venv/services"
[ -x "$folder/usr/bin/prometheus" ] && [ -x "$folder/usr/bin/prometheus-alertmanager" ] && exit 0

on_the_path() {
  for program in "$@"; do command -v "$program" >/dev/null || return 1; done
}
if on_the_path prometheus promtool amtool && { on_the_path alertmanager || on_the_path prometheus-alertmanager; }; then
  exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
  echo "Put prometheus, promtool, alertmanager and amtool on the path: https://prometheus.io/download/" >&2
  exit 1
fi
new="$folder.new"
rm -rf "$new"
mkdir -p "$new/packages"
cd "$new/packages"
if ! apt-get -q -o APT::Sandbox::User=root download prometheus prometheus-alertmanager; then
  echo "apt knows no package prometheus: run apt-get update (as root), or put the programs on the path." >&2
  exit 1
fi
for package in *.deb; do
  dpkg -x "$package" "$new"
done
# Debian's Alertmanager reads its templates from /usr/share, which takes root to write to: this one reads them from the
# folder that it is started in. Both paths are of one length, since they stand in the program itself.
LC_ALL=C sed -i "s#/usr/share/prometheus/alertmanager#/proc/self/cwd////////////////////#g" \
  "$new/usr/bin/prometheus-alertmanager"
rm -rf "$new/packages" "$folder"
mv "$new" "$folder"
