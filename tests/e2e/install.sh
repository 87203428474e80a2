#!/bin/sh
# install.sh BUILD: installs the build to an empty prefix, moves that, and builds a program against it: by pkg-config
# with the shared and the static library, and by find_package. Skips (77) without pkg-config or with a sanitizer.
set -eu
build=$1
cc=${CC:-cc}
cmake=${CMAKE:-cmake}
[ -z "${SANITIZE:-}" ] || { echo "skipped: built with a sanitizer"; exit 77; }
command -v pkg-config > /dev/null || { echo "skipped: no pkg-config"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$cmake" --install "$build" --prefix "$work/first" > /dev/null
mv "$work/first" "$work/prefix" # nothing may remember where it was installed
cd "$work"

cat > program.c << 'END'
#include <gemma.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    uint32_t header = GEMMA_VERSION_MAJOR << 16 | GEMMA_VERSION_MINOR << 8 | GEMMA_VERSION_PATCH;
    printf("%s %x\n", gemma_error_name(GEMMA_E_NOMEM), (unsigned)gemma_version());
    return gemma_version() != header || strcmp(gemma_error_name(-2), "GEMMA_E_NOMEM") != 0;
}
END

lib=$(dirname "$(find prefix -name libgemma.a)")
for file in "$lib/libgemma.a" "$lib/libgemma.so" "$lib/pkgconfig/gemma.pc" "$lib/cmake/gemma/gemmaConfig.cmake" \
    "$lib/cmake/gemma/gemmaConfigVersion.cmake" prefix/include/libgemma-0/gemma.h; do
    [ -e "$file" ] || { echo "not installed: $file"; exit 1; }
done
[ ! -e prefix/include/gemma.h ] || { echo "gemma.h lies in the common include folder"; exit 1; }
soname=$(objdump -p "$lib/libgemma.so" | awk '/SONAME/ { print $2 }')
[ "$soname" = libgemma.so.0 ] && [ -e "$lib/$soname" ] || { echo "soname is $soname"; exit 1; }

PKG_CONFIG_PATH=$work/$lib/pkgconfig
export PKG_CONFIG_PATH
flags() { pkg-config "$@" gemma; }
no_library() {
    if ldd "$1" | grep libgemma; then
        echo "$1 is not linked statically"
        exit 1
    fi
}
set -x
"$cc" program.c $(flags --cflags --libs) -o shared
LD_LIBRARY_PATH=$work/$lib ./shared
LD_LIBRARY_PATH=$work/$lib ldd ./shared | grep -q "$soname"
"$cc" program.c $(flags --static --cflags --libs | sed 's/-lgemma/-l:libgemma.a/') -o static
./static
no_library ./static

mkdir project
cp program.c project/
cat > project/CMakeLists.txt << 'END'
cmake_minimum_required(VERSION 3.13)
project(user C)
find_package(gemma 0.1 REQUIRED)
add_executable(by_shared program.c)
target_link_libraries(by_shared PRIVATE gemma::gemma)
add_executable(by_static program.c)
target_link_libraries(by_static PRIVATE gemma::gemma_static)
END
"$cmake" -G Ninja -S project -B out -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$work/prefix" > log 2>&1 || { cat log; exit 1; }
"$cmake" --build out > log 2>&1 || { cat log; exit 1; }
out/by_shared
out/by_static
no_library out/by_static
sed -i 's/gemma 0.1/gemma 99.0/' project/CMakeLists.txt
if "$cmake" -G Ninja -S project -B out2 -DCMAKE_C_COMPILER="$cc" -DCMAKE_PREFIX_PATH="$work/prefix" > log 2>&1; then
    echo "find_package took version 0.1 for 99.0"
    exit 1
fi
