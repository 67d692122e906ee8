#!/usr/bin/env bash
# Install what the tests of running on nodes need: an SSH server, tools for hosts with networks of their own, login shells
# other than bash, and Open MPI. For Debian and Ubuntu, as root. Nothing is started: the tests start their own servers, with
# their own keys and settings in temporary folders, and end only those.
set -euo pipefail

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
    echo "no root or no apt-get here: tests over SSH run with what is installed, and say what they leave out"
    exit 0
fi
packages=(openssh-server openssh-client iproute2 util-linux procps sudo tcsh fish zsh openmpi-bin)
missing=()
for package in "${packages[@]}"; do
    dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
[ "${#missing[@]}" -gt 0 ] || exit 0
# The package would start a server for the whole machine.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get install --yes --no-install-recommends "${missing[@]}" >/dev/null ||
    { apt-get update >/dev/null && apt-get install --yes --no-install-recommends "${missing[@]}" >/dev/null; }
