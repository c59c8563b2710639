#!/bin/sh
# Brings what check.py runs into target/deploy-tools, and nothing into the system. Quick when all of it is there.
set -eu
cd "$(dirname "$0")/../.."
tools=$PWD/target/deploy-tools
venv=$tools/venv
mkdir -p "$tools/bin"

# kustomize is part of kubectl; ours is written for its version 5.
is_new_enough() {
    version=$("$1" version --client 2>/dev/null | sed -n 's/^Kustomize Version: v\([0-9]*\)\..*/\1/p')
    [ "${version:-0}" -ge 5 ]
}

# Debian 12's kubectl is older, so the next release's is unpacked: fetched by apt with lists of its own, from wherever
# this machine has its packages from.
fetch_kubectl() {
    command -v apt-get >/dev/null || { echo "install kubectl, with version 5 of kustomize or newer" >&2; exit 1; }
    echo "fetching kubectl"
    apt=$tools/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources" "$apt/package"
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; do
        if [ -f "$list" ]; then sed 's/\bbookworm\b/trixie/g' "$list" > "$apt/sources/next.${list##*.}"; fi
    done
    set -- -qq -o Dir::Etc::SourceList=/dev/null -o "Dir::Etc::SourceParts=$apt/sources" \
        -o Dir::State::Status=/dev/null -o "Dir::State::Lists=$apt/lists" \
        -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root
    apt-get "$@" update
    (cd "$apt/package" && apt-get "$@" download kubectl && dpkg -x ./*.deb . && rm ./*.deb)
    rm -r "$apt/lists" "$apt/cache"
    ln -sf "$apt/package/usr/bin/kubectl" "$tools/bin/kubectl"
}

wanted=$(sha256sum tests/deploy/requirements.txt)
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -r tests/deploy/requirements.txt
    echo "$wanted" > "$venv/installed"
fi
for tool in check-jsonschema checkov hadolint kubernetes-validate; do
    ln -sf "$venv/bin/$tool" "$tools/bin/$tool"
done

if ! is_new_enough "$tools/bin/kubectl"; then
    kubectl=$(command -v kubectl || true)
    if [ -n "$kubectl" ] && is_new_enough "$kubectl"; then
        ln -sf "$kubectl" "$tools/bin/kubectl"
    else
        fetch_kubectl
    fi
fi
