#!/usr/bin/env python3
"""Proof that the gates can fail: small trees with one fault each, and clean ones that must pass."""
import contextlib
import importlib
import io
import os
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'abi')]
LONG_FUNCTION = 'int f(int a)\n{\n' + '    a++;\n' * 90 + '    return a;\n}\n'
NOTE = 'TO' + 'DO'

# gate, files of the tree, what it must say (None: it must pass)
CASES = [
    ('size', {'lib/a.c': 'int f(void) { return 1; }\n' * 10}, None),
    ('size', {'lib/a.c': '\n' * 601}, 'lib/a.c: 601 lines'),
    ('size', {'shaders/a.comp': '\n' * 601}, 'shaders/a.comp: 601 lines'),
    ('size', {'lib/a.c': '#include "gemma.h"\n' + LONG_FUNCTION}, 'lib/a.c:2: f has 94 lines'),
    ('size', {'lib/a.h': 'extern "C" {\n' + LONG_FUNCTION + '}\n'}, 'lib/a.h:2: f has 94 lines'),
    ('size', {'lib/a.c': 'static const struct s *g(int (*h)(int), char c)\n{\n' + 'h(\'{\');\n' * 80 + '}\n'}, 'g has 83 lines'),
    ('size', {'tests/a.py': 'def f():\n' + '    pass\n' * 90}, 'tests/a.py:1: f has 91 lines'),
    ('size', {'lib/a.c': 'const int t[] = {\n' + '1,\n' * 100 + '};\n'}, None),
    ('size', {'lib/a.c': '\n' * 601, 'tests/gates/size_exceptions.txt': 'lib/a.c a table\n'}, None),
    ('size', {'lib/a.c': '\n' * 601, 'tests/gates/size_exceptions.txt': 'lib/a.c\n'}, 'has no reason'),
    ('size', {'lib/a.c': '\n', 'tests/gates/size_exceptions.txt': 'lib/a.c a table\n'}, 'no longer needed'),

    ('layers', {'lib/kv/kv.c': '#include "kv/kv.h"\n#include "op/op.h"\n#include "gemma.h"\n#include <string.h>\n'}, None),
    ('layers', {'lib/op/a.c': '#include "kv/kv.h"\n'}, '"kv/kv.h" is of level 3'),
    ('layers', {'lib/tokenizer/a.c': '#include "sampler/sampler.h"\n'}, 'is of level 1'),
    ('layers', {'lib/plan/a.c': '#include "model/model.h"\n'}, None),
    ('layers', {'lib/model/a.c': '#include "plan/plan.h"\n'}, 'is of level 4'),
    ('layers', {'lib/model/a.c': '#include "gguf/header.h"\n'}, 'private to gguf'),
    ('layers', {'lib/gguf/a.c': '#include "header.h"\n', 'lib/gguf/header.h': ''}, None),
    ('layers', {'lib/gguf/a.c': '#include "../op/op.h"\n', 'lib/op/op.h': ''}, 'is of level 2'),
    ('layers', {'lib/weights/a.c': '#include "backend/cpu/cpu.h"\n'}, 'only lib/api names a concrete backend'),
    ('layers', {'lib/api/a.c': '#include "backend/cpu/cpu.h"\n'}, None),
    ('layers', {'lib/backend/cpu/x86/a.c': '#include "backend/backend.h"\n#include "backend/cpu/kernels.h"\n'}, None),
    ('layers', {'lib/backend/cpu/a.c': '#include "backend/dummy/dummy.h"\n'}, 'concrete backend'),
    ('layers', {'lib/backend/a.c': '#include "backend/cpu/cpu.h"\n'}, 'concrete backend'),
    ('layers', {'lib/odd/a.c': '#include "base/base.h"\n'}, 'lies in no known folder'),
    ('layers', {'lib/kv/a.c': '#include "jansson.h"\n'}, 'lies in no known folder'),
    ('layers', {'lib/gguf/a.c': '#  include <sys/mman.h>\n'}, 'stays in lib/base'),
    ('layers', {'lib/gguf/a.c': '#include <windows.h>\n'}, 'stays in lib/base'),
    ('layers', {'lib/base/a.c': '#include <unistd.h>\n'}, None),
    ('layers', {'lib/kv/a.c': '#include <vulkan/vulkan.h>\n'}, 'only lib/backend/vulkan'),
    ('layers', {'lib/kv/a.c': '/* #include "api/api.h" */\n'}, None),
    ('layers', {'examples/a.c': '#include "base/base.h"\n'}, 'not a public header'),
    ('layers', {'examples/a.c': '#include "gemma.h"\n#include "cli.h"\n', 'examples/cli.h': ''}, None),

    ('forbidden', {'lib/a.c': '/* abort() */ const char *const s = "printf(";\nvoid f(void) { h->free(p); gm_abort(); }\n'}, None),
    ('forbidden', {'lib/a.c': 'void f(void) { abort(); }\n'}, 'lib/a.c:1: abort()'),
    ('forbidden', {'lib/a.c': '#include <assert.h>\n#define CHECK(x) assert (x)\n'}, 'lib/a.c:2: assert()'),
    ('forbidden', {'lib/a.c': 'static_assert(1, "");\n_Static_assert(1, "");\n'}, None),
    ('forbidden', {'lib/base/mem.c': 'void *f(void) { return malloc(1); }\n'}, 'malloc()'),
    ('forbidden', {'lib/base/os_posix.c': 'void *f(void) { return malloc(1); }\n'}, None),
    ('forbidden', {'lib/base/os_posix.c': 'char *f(void) { return getenv("A"); }\n'}, 'getenv()'),
    ('forbidden', {'lib/a.c': 'int n;\n'}, 'lib/a.c:1: a writable global'),
    ('forbidden', {'lib/a.c': '\nstatic int table[3] = { 1, 2, 3 };\n'}, 'lib/a.c:2: a writable global'),
    ('forbidden', {'lib/a.c': 'static const char *names[] = { "a" };\n'}, 'a writable global'),
    ('forbidden', {'lib/a.c': 'static const char *const names[] = { "a" };\n'}, None),
    ('forbidden', {'lib/a.c': 'static int (*hook)(int);\n'}, 'a writable global'),
    ('forbidden', {'lib/a.c': 'static int (*const hooks[])(int) = { 0 };\n'}, None),
    ('forbidden', {'lib/a.c': 'static struct { int a; } state;\n'}, 'a writable global'),
    ('forbidden', {'lib/a.c': 'int f(void)\n{\n    static int n;\n    return n++;\n}\n'}, 'lib/a.c:3: a writable global'),
    ('forbidden', {'lib/a.c': 'int f(void (*g)(int), int n);\ntypedef struct s { int a; } s;\nstruct t { int b; };\n'
                              'enum { A = 1 };\nint f(void (*g)(int), int n) { static const int t[] = { 1 }; return t[n]; }\n'}, None),
    ('forbidden', {'docs/a.md': f'{NOTE}: later\n'}, 'docs/a.md:1: unfinished'),
    ('forbidden', {'docs/a.md': 'see /wo' + 'rk/main\n'}, 'names a place of its makers'),
    ('forbidden', {'a.toml': 'index = "https://pypi-mir' + 'ror.corp/simple"\n'}, 'names a place of its makers'),

    ('format', {'.clang-format': 'BasedOnStyle: LLVM\n', 'lib/a.c': 'int   f(void);\n'}, 'lib/a.c:1: not formatted'),
    ('format', {'.clang-format': 'BasedOnStyle: LLVM\n', 'lib/a.c': 'int f(void);\n'}, None),

    ('symbols', {'include/gemma.h': 'GEMMA_PUBLIC int gemma_a(void);\n', 'tests/abi/symbols.txt': 'gemma_a 0.1\n'}, None),
    ('symbols', {'include/gemma.h': 'GEMMA_PUBLIC int gemma_a(void);\nGEMMA_PUBLIC const char *\ngemma_b(int x);\n',
                 'tests/abi/symbols.txt': 'gemma_a 0.1\n'}, 'gemma_b is not in symbols.txt'),
    ('symbols', {'include/gemma.h': '', 'tests/abi/symbols.txt': 'gemma_a 0.1\n'}, 'gemma_a of symbols.txt is missing'),
    ('symbols', {'include/gemma.h': '', 'tests/abi/symbols.txt': 'gemma_a\n'}, 'not "name version"'),

    ('layout', {'include/gemma.h': 'typedef struct s {\n uint32_t size;\n int32_t a, b[1];\n} s;\n',
                'tests/abi/layout.c': 'SIZE(s, 12);\nFIELD(s, size, 0, 4);\nFIELD(s, a, 4, 4);\nFIELD(s, b, 8, 4);\n'}, None),
    ('layout', {'include/gemma.h': 'typedef struct s {\n uint32_t size;\n uint32_t a;\n} s;\n',
                'tests/abi/layout.c': 'SIZE(s, 4);\nFIELD(s, size, 0, 4);\n'}, 'layout.c lacks: FIELD(s, a, 4, 4);'),
    ('layout', {'include/gemma.h': 'typedef struct s {\n uint32_t size;\n uint64_t a;\n} s;\n',
                'tests/abi/layout.c': ''}, 'hidden padding before offset 4'),
    ('layout', {'include/gemma.h': 'typedef struct s {\n uint32_t size;\n uint32_t a;\n void *p;\n float f;\n} s;\n',
                'tests/abi/layout.c': ''}, 'hidden padding at its end'),
    ('layout', {'include/gemma.h': 'typedef struct s {\n uint32_t size;\n long a;\n} s;\n', 'tests/abi/layout.c': ''},
     'not a type of fixed size'),
]

# C text of a library, what check_symbols.py must say about it
LIBRARIES = [
    ('int gemma_a(void) { return 1; }', None),
    ('int gemma_a(void) { return 1; } int other(void) { return 1; }', 'other is not in symbols.txt'),
    ('int gemma_b(void) { return 1; }', 'gemma_a of symbols.txt is missing'),
    ('#include <stdlib.h>\nint gemma_a(void) { abort(); }', 'needs abort'),
    ('#include <stdio.h>\nint gemma_a(void) { return puts("a"); }', 'needs puts'),
    ('static int n; int gemma_a(void) { return n++; }', 'n is writable (.bss)'),
    ('static int n = 3; int gemma_a(void) { return n++; }', 'n is writable (.data)'),
    ('static const int a = 1; const int *const t[] __attribute__((visibility("hidden"))) = { &a };\n'
     'int gemma_a(void) { return *t[0]; }', None),
]


def run(gate, *arguments):
    """(exit status, output) of a gate, run in this process: it is much faster."""
    output, status, argv = io.StringIO(), 0, sys.argv
    sys.argv = [gate, *arguments]
    try:
        with contextlib.redirect_stdout(output):
            importlib.import_module(f'check_{gate}').main()
    except SystemExit as end:
        status = end.code
    sys.argv = argv
    return status, output.getvalue()


def judge(what, status, output, wanted):
    good = status == 77 or (status == 0 if wanted is None else status == 1 and wanted in output)
    if not good:
        print(f'{what}: wanted {wanted!r}, got status {status}:\n{output}')
    return good


def check_trees():
    good = True
    for gate, tree, wanted in CASES:
        with tempfile.TemporaryDirectory() as root:
            for name, text in tree.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), 'w', encoding='utf-8') as f:
                    f.write(text)
            good &= judge(f'{gate} {list(tree)}', *run(gate, '--root', root), wanted)
    return good


def check_libraries():
    good, n = True, 0
    compiler = os.environ.get('CC', 'cc')
    for text, wanted in LIBRARIES:
        with tempfile.TemporaryDirectory() as root:
            os.makedirs(os.path.join(root, 'include'))
            os.makedirs(os.path.join(root, 'tests/abi'))
            for name, content in (('include/gemma.h', 'GEMMA_PUBLIC int gemma_a(void);\n'), ('a.c', text + '\n'),
                                  ('tests/abi/symbols.txt', 'gemma_a 0.1\n')):
                with open(os.path.join(root, name), 'w', encoding='utf-8') as f:
                    f.write(content)
            shared, archive = os.path.join(root, 'libgemma.so'), os.path.join(root, 'a.o')
            for command in ((compiler, '-w', '-shared', '-fPIC', os.path.join(root, 'a.c'), '-o', shared),
                            (compiler, '-w', '-c', '-fPIC', os.path.join(root, 'a.c'), '-o', archive)):
                subprocess.run(command, check=True)
            good &= judge(text, *run('symbols', '--root', root, '--shared', shared, '--static', archive), wanted)
            n += 1
    return good, n


def main():
    trees_good = check_trees()
    libraries_good, n = check_libraries() if sys.platform == 'linux' else (True, 0)
    print(f'selftest: {len(CASES) + n} trees and libraries')
    sys.exit(0 if trees_good and libraries_good else 1)


if __name__ == '__main__':
    main()
