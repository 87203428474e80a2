# Sourced by a script that is called with BIN: programs in $bin, a tiny model in $model, an empty folder to be in, and fail, which
# shows what the last program printed (to the files out and err). Skips (77) without python3.
set -eu
bin=$1
here=$(cd "$(dirname "$0")/.." && pwd)
model=$here/data/tiny/tiny-gemma4-e2b.Q4_K_M.gguf
command -v python3 > /dev/null || { echo "skipped: no python3"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export LC_ALL=C

fail()
{
    echo "$*"
    echo "--- stdout"; cat out
    echo "--- stderr"; cat err
    exit 1
}
