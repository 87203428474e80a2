#!/bin/sh
# All gates on the source tree; with a library as $1 (libgemma.so, or a folder that holds it and libgemma.a) on its
# symbols too. Exits 1 when one fails; a gate that cannot run here says "skipped".
set -u
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
failed=0

gate() {
    "$python" "$here/$@"
    status=$?
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then failed=1; fi
}

gate check_size.py
gate check_layers.py
gate check_forbidden.py
gate check_format.py
gate ../abi/check_layout.py
case ${1:-} in
'') gate check_symbols.py ;;
*.a) gate check_symbols.py --static "$1" ;;
*.so*) gate check_symbols.py --shared "$1" ;;
*) gate check_symbols.py --shared "$1/libgemma.so" --static "$1/libgemma.a" ;;
esac
gate selftest.py
exit $failed
