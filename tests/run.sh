#!/bin/sh
# Every check of the project, each step named as it begins; ends with ctest's summary.
# Usage: run.sh [quick]      quick: only the release build and its tests
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
. examples/packages.sh
what=${1:-all}

step() { printf '\n=== %s\n' "$*"; }
# The levels of aarch64 on emulated processors; false: no emulator, or no packages for it, could be had.
emulate_aarch64()
{
    (need qemu-user-static) && arm=$(tests/aarch64-packages.sh build/aarch64-packages) || return 1
    PKG_CONFIG_LIBDIR=$arm/usr/lib/aarch64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$arm \
        cmake -S . -B build/aarch64 -DGEMMA_TESTS=ON \
        -DCMAKE_CROSSCOMPILING_EMULATOR="qemu-aarch64-static;-L;/usr/aarch64-linux-gnu" >build/aarch64.log 2>&1 ||
        { cat build/aarch64.log; exit 1; }
    cmake --build build/aarch64 --target levels || exit 1
    QEMU_CPU=max ctest --test-dir build/aarch64 -j 2 --output-on-failure --tests-regex '^(levels\.|api\.generation$)' || exit 1
}
# A build folder: build NAME CONFIGURE-ARGUMENT...
build()
{
    name=$1
    shift
    cmake -S . -B "build/$name" -G Ninja -DGEMMA_WERROR=ON "$@" >"build/$name.log" 2>&1 || { cat "build/$name.log"; exit 1; }
    cmake --build "build/$name"
}

step "packages"
need gcc g++ libc6-dev cmake ninja-build pkg-config libcmocka-dev libjansson-dev libjsmn-dev libedit-dev python3 python3-pip \
    ca-certificates glslc spirv-tools libvulkan-dev libvulkan1
# What the software drivers are linked to.
need libllvm15 zlib1g libzstd1 libdrm2 libexpat1 libxcb1 libxcb-randr0 libx11-xcb1 libxcb-dri3-0 libxcb-present0 \
    libxcb-xfixes0 libxcb-sync1 libxcb-shm0 libxshmfence1 libwayland-client0 libstdc++6
[ "$what" = quick ] || need clang clang-format libclang-rt-14-dev gcc-aarch64-linux-gnu libc6-dev-arm64-cross gcc-mingw-w64-x86-64
mkdir -p build

step "the model of the end-to-end tests (they are skipped without it)"
GEMMA_TEST_MODEL=$(examples/fetch-model.sh) || GEMMA_TEST_MODEL=
export GEMMA_TEST_MODEL

step "software Vulkan drivers and the validation layer (their tests are skipped without them)"
tests/vulkan-drivers.sh build/vulkan-drivers || echo "no Vulkan drivers: could not be downloaded"

step "gcc, release"
build release -DCMAKE_BUILD_TYPE=Release -DGEMMA_VULKAN_DRIVERS="$root/build/vulkan-drivers"

if [ "$what" != quick ]; then
    step "clang, release: the fuzz targets too"
    build clang -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang -DGEMMA_FUZZ=ON
    step "aarch64, compiled"
    build aarch64 -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
        -DCMAKE_C_COMPILER=aarch64-linux-gnu-gcc -DGEMMA_TESTS=OFF -DGEMMA_TOOLS=OFF
    step "aarch64 levels under qemu: conformance"
    emulate_aarch64 || echo "SKIPPED: qemu-user-static, or cmocka of arm64, could not be had"
    step "Windows (mingw-w64), compiled"
    build windows -DCMAKE_SYSTEM_NAME=Windows -DCMAKE_SYSTEM_PROCESSOR=x86_64 \
        -DCMAKE_C_COMPILER=x86_64-w64-mingw32-gcc -DGEMMA_TESTS=OFF -DGEMMA_TOOLS=OFF
    step "address and undefined-behaviour sanitizers"
    build asan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -g" -DGEMMA_SANITIZE=address,undefined
    ctest --test-dir build/asan -j 2 --output-on-failure --label-exclude "plain"
    step "thread sanitizer"
    build tsan -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_FLAGS_RELWITHDEBINFO="-O1 -g" -DGEMMA_SANITIZE=thread
    ctest --test-dir build/tsan --output-on-failure --label-regex "threads"
fi

step "all tests, release"
ctest --test-dir build/release -j 2 --output-on-failure
