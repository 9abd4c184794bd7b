#!/usr/bin/env bash
# Install the missing ones of the Debian packages in a file, without starting their services.
set -euo pipefail

mapfile -t wanted <"$1"
missing=()
for package in "${wanted[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "This is not Debian: install the contents of these packages yourself: ${missing[*]}" >&2
    exit 1
fi
sudo=$([ "$(id -u)" = 0 ] || echo sudo)
echo "Installing ${missing[*]} …"
# In this runlevel no service is started automatically: the tests start their own.
$sudo apt-get update -qq
$sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "${missing[@]}" >/dev/null
