#!/bin/sh
# From a plain clone to text: installs what is missing, builds, fetches a small model and lets it continue a prompt, on the
# first GPU that holds it, else on the CPU.
# Usage: quickstart.sh ["prompt"]
set -eu
prompt=${1:-"The three things every traveller should know about the Moon are"}
here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
. "$here/packages.sh"

echo "1/4  packages: a C compiler, CMake, Ninja, pkg-config, jansson, libedit, pip, glslc and Vulkan's headers" >&2
need gcc libc6-dev cmake ninja-build pkg-config libjansson-dev libjsmn-dev libedit-dev python3 python3-pip ca-certificates \
    glslc libvulkan-dev libvulkan1

echo "2/4  building libgemma and its programs in $root/build/release" >&2
mkdir -p "$root/build/release"
(cd "$root" && cmake --preset release -DGEMMA_TESTS=OFF >build/release/configure.log 2>&1) || {
    cat "$root/build/release/configure.log" >&2
    exit 1
}
cmake --build "$root/build/release" >&2

echo "3/4  the model: Gemma 3 270M, Q4_K_M" >&2
model=$("$here/fetch-model.sh")

echo "4/4  gemma-chat --raw (this is a base model: it continues the text)" >&2
exec "$root/build/release/bin/gemma-chat" -m "$model" --raw -n 96 -p "$prompt"
