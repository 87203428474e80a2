#!/bin/sh
# Two software Vulkan drivers and a current validation layer, out of Debian packages that are unpacked into a folder and
# not installed. Prints the lines that select them, for `eval`.
# Usage: vulkan-drivers.sh FOLDER
set -eu
[ $# -eq 1 ] || { echo "usage: vulkan-drivers.sh FOLDER" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
mesa_version=25.0.7-2~bpo12+1

# unpack NAME PACKAGE APT-ARGUMENT...: once.
unpack()
{
    name=$1 package=$2
    shift 2
    [ -e "$folder/$name/done" ] && return 0
    rm -rf "$folder/$name" "$folder/download"
    mkdir -p "$folder/$name" "$folder/download"
    (cd "$folder/download" && apt-get "$@" download "$package" >/dev/null 2>"$folder/apt.log") ||
        { cat "$folder/apt.log" >&2; exit 1; }
    dpkg -x "$folder"/download/*.deb "$folder/$name"
    rm -rf "$folder/download"
    touch "$folder/$name/done"
}

# The backports of the place that the system's packages come from, in package lists of their own.
backports()
{
    lists="$folder/apt"
    mkdir -p "$lists/lists/partial" "$lists/parts"
    from=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
        sed -nE 's/^(URIs:|deb( +\[[^]]*\])?) +([a-z]+:[^ ]*\/debian)\/?( .*)?$/\3/p' | head -n 1)
    [ -n "$from" ] || from=http://deb.debian.org/debian
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $from bookworm-backports main" >"$lists/sources.list"
    set -- -o "Dir::Etc::SourceList=$lists/sources.list" -o "Dir::Etc::SourceParts=$lists/parts" \
        -o "Dir::State::Lists=$lists/lists" -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User=root
    [ -e "$folder/lavapipe/done" ] || apt-get "$@" update -qq >/dev/null 2>"$folder/apt.log" || cat "$folder/apt.log" >&2
    unpack lavapipe "mesa-vulkan-drivers=$mesa_version" "$@"
}

# manifest NAME LIBRARY: how the loader finds a driver.
manifest()
{
    library=$(find "$folder/$1" -name "$2" | head -n 1)
    [ -n "$library" ] || { echo "no $2 among the files of $1" >&2; exit 1; }
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$library" \
        >"$folder/$1.json"
}

unpack swiftshader chromium-common -o APT::Sandbox::User=root
backports
manifest swiftshader libvk_swiftshader.so
manifest lavapipe libvulkan_lvp.so
mkdir -p "$folder/layers"
cat >"$folder/layers/validation.json" <<JSON
{"file_format_version": "1.1.0", "layer": {"name": "VK_LAYER_KHRONOS_validation", "type": "GLOBAL",
 "library_path": "$folder/swiftshader/usr/lib/chromium/libVkLayer_khronos_validation.so",
 "api_version": "1.4.0", "implementation_version": "1", "description": "Khronos validation layer"}}
JSON
echo "GEMMA_TEST_LAVAPIPE=$folder/lavapipe.json"
echo "GEMMA_TEST_SWIFTSHADER=$folder/swiftshader.json"
echo "GEMMA_TEST_VALIDATION=$folder/layers"
