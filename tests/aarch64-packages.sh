#!/bin/sh
# What tests of aarch64 need beside its compiler: cmocka and jansson of that processor, unpacked into a folder, nothing installed.
# Usage: aarch64-packages.sh FOLDER      prints the folder that pkg-config's files name their paths under
set -eu
mkdir -p "$1"
folder=$(cd "$1" && pwd)
root=$folder/root
done_file=$folder/complete
if [ ! -e "$done_file" ]; then
    rm -rf "$folder/lists" "$folder/cache" "$root"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$root"
    cat >"$folder/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$folder";
Dir::State::Lists "$folder/lists";
Dir::Cache "$folder/cache";
END
    cd "$folder"
    APT_CONFIG=$folder/apt.conf
    export APT_CONFIG
    apt-get update -qq >&2
    apt-get download -qq libcmocka0 libcmocka-dev libjansson4 libjansson-dev >&2
    for package in ./*.deb; do dpkg -x "$package" "$root"; done
    rm -rf ./*.deb "$folder/lists" "$folder/cache"
    touch "$done_file"
fi
echo "$root"
