#!/bin/sh
# The programs through software Vulkan: the CPU's text, a silent validation layer, and what is said where there is no
# Vulkan. Skipped without the drivers of tests/vulkan-drivers.sh or the real model.
# Usage: vulkan.sh BIN DRIVERS [MODEL]
set -eu
bin=$1 drivers=$2 model=${3:-${GEMMA_TEST_MODEL:-}}
[ -e "$drivers/lavapipe.json" ] && [ -e "$drivers/swiftshader.json" ] || { echo "skipped: no drivers in $drivers"; exit 77; }
[ -n "$model" ] && [ -e "$model" ] || { echo "skipped: GEMMA_TEST_MODEL names no model"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work"

fail() { echo "FAILED: $*"; exit 1; }
# chat DEVICE DRIVER N: greedy text. The prompt's first 14 answers have a margin that every backend must respect.
chat()
{
    VK_DRIVER_FILES="$drivers/$2.json" "$bin/gemma-chat" -m "$model" --device "$1" --raw --temp 0 --n "$3" --ctx 256 $place \
        -p "1, 1, 2, 3, 5, 8, 13," 2>"$work/err" || { cat "$work/err"; fail "gemma-chat --device $1 on $2"; }
}
same()
{
    chat cpu lavapipe "$3" >"$work/cpu"
    chat "$1" "$2" "$3" >"$work/other"
    [ -s "$work/cpu" ] || fail "no text"
    cmp "$work/cpu" "$work/other" || fail "another text on $2"
    echo "ok: $3 tokens on $2 as on the CPU"
}
# Silent under validation: the layer has to be there (a wrong layer name would stop the loader), and its log empty.
silent()
{
    driver=$1
    shift
    VK_DRIVER_FILES="$drivers/$driver.json" VK_LAYER_PATH="$drivers/layers" VK_LAYER_VALIDATE_SYNC=1 \
        VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation VK_LOADER_DEBUG=layer "$@" >"$work/out" 2>&1 ||
        { tail -n 20 "$work/out"; fail "$driver under validation"; }
    grep -q "VK_LAYER_KHRONOS_validation" "$work/out" || fail "the validation layer was not loaded"
    if grep -qE "Validation (Error|Warning)|VUID-|SYNC-HAZARD" "$work/out"; then
        grep -E "Validation|VUID-|SYNC-HAZARD" "$work/out" | head -n 5
        fail "validation speaks on $driver"
    fi
    echo "ok: validation is silent on $driver"
}
# says WORDS COMMAND...: fails with status 1 and a sentence that has the words.
says()
{
    words=$1
    shift
    status=0
    "$@" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 1 ] || { cat "$work/err"; fail "status $status instead of 1: $*"; }
    grep -q "$words" "$work/err" || { cat "$work/err"; fail "does not say \"$words\": $*"; }
}

place=
same vulkan lavapipe 12
place="--place all:0-8=cpu"
same vulkan lavapipe 4
grep -q "predicted" "$work/err" || { cat "$work/err"; fail "a placed model's speed is not beside its prediction"; }
place=
same vulkan swiftshader 4
for driver in lavapipe swiftshader; do
    silent "$driver" "$bin/gemma-chat" -m "$model" --device vulkan --raw --temp 0 --n 3 --ctx 256 -p "1, 1, 2, 3,"
done

# No driver, and one whose library is missing.
printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s/none.so", "api_version": "1.3.0"}}' "$work" \
    >"$work/missing.json"
for files in "$work/nothing.json" "$work/missing.json"; do
    says "vulkan" env VK_DRIVER_FILES="$files" "$bin/gemma-plan" -m "$model" --device vulkan
    VK_DRIVER_FILES="$files" "$bin/gemma-plan" -m "$model" --device auto >"$work/out" 2>&1 || fail "auto without a driver"
    grep -q "CPU" "$work/out" || fail "auto did not take the CPU"
    grep -qi "vulkan" "$work/out" || { cat "$work/out"; fail "auto does not say why"; }
done
echo "ok: without a driver"

# A user who may not open a GPU's file, with a software driver there: the CPU, and why. Root is nobody for this.
nobody=
[ "$(id -u)" != 0 ] || nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
reads() { $nobody test -x "$bin/gemma-plan" -a -r "$model" -a -r "$drivers/lavapipe.json"; }
opens_a_gpu()
{
    for node in /dev/dri/renderD*; do
        if $nobody test -r "$node" -a -w "$node"; then return 0; fi
    done
    return 1
}
if ! reads; then
    echo "skipped: nobody cannot read $bin, $model or $drivers"
elif opens_a_gpu; then
    echo "skipped: this user may use the GPU"
else
    VK_DRIVER_FILES="$drivers/lavapipe.json" $nobody "$bin/gemma-plan" -m "$model" --no-probe >"$work/out" 2>&1 ||
        { cat "$work/out"; fail "auto without /dev/dri"; }
    grep -q "on the CPU: .*needs access to /dev/dri/renderD" "$work/out" ||
        { cat "$work/out"; fail "auto without /dev/dri does not say why"; }
    echo "ok: without access to /dev/dri"
fi
