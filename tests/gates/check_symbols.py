#!/usr/bin/env python3
"""The exported names are those of tests/abi/symbols.txt (name, first version), which are those of the public headers.
With a shared library: it exports just these, and needs nothing that ends the process, prints, or reads the
environment. With a static one: its objects hold no writable data."""
import os
import re
import subprocess
import sys
import source

FORBIDDEN = re.compile(r'(abort|_?exit|_Exit|quick_exit|(secure_)?getenv|setenv|putenv|.*printf.*|f?puts|fputs|putchar|'
                       r'fwrite|perror|signal|sigaction|raise|setlocale|system|__assert_fail|__assert_rtn|_?longjmp|'
                       r'stdout|stderr|stdin|environ)$')
ALLOWED_UNDEFINED = {'__stack_chk_fail'}
SANITIZER = re.compile(r'__(a|t|ub|l|m)san_')


def tool(*command):
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if result.returncode:
        sys.exit(f'{" ".join(command)}: {result.stderr.decode().strip()}')
    return result.stdout.decode()


def listed(path, problems):
    names = {}
    with open(path, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            if line.startswith('#') or not line.strip():
                continue
            match = re.match(r'(gemma_\w+) (\d+\.\d+)$', line.strip())
            if not match:
                problems.append(f'symbols.txt:{number}: not "name version": {line.strip()}')
            else:
                names[match.group(1)] = match.group(2)
    if list(names) != sorted(names):
        problems.append('symbols.txt: not in alphabetical order')
    return set(names)


def declared(root):
    names = set()
    for name in source.files(root, ('include',), ('.h',)):
        text = source.code(source.read(root, name), directives=False)
        names |= set(re.findall(r'\bGEMMA_PUBLIC\b[^;()]*?\b(\w+)\s*\(', text))
    return names


def compare(what, got, wanted, problems):
    problems += [f'{what}: {name} is not in symbols.txt' for name in sorted(got - wanted)]
    problems += [f'{what}: {name} of symbols.txt is missing' for name in sorted(wanted - got)]


def check_shared(path, wanted, problems):
    # "address type name": the version node itself is absolute (A)
    rows = [line.split() for line in tool('nm', '-D', '--defined-only', path).splitlines()]
    compare(os.path.basename(path), {row[-1].split('@')[0] for row in rows if row[-2] != 'A'}, wanted, problems)
    undefined = {line.split()[-1].split('@')[0] for line in tool('nm', '-D', '-u', path).splitlines() if line.strip()}
    if any(SANITIZER.match(name) for name in undefined):
        print('symbols: skipped, the library is built with a sanitizer')
        sys.exit(77)
    problems += [f'{os.path.basename(path)}: needs {name}' for name in sorted(undefined - ALLOWED_UNDEFINED)
                 if FORBIDDEN.match(name)]


def check_static(path, problems):
    """Objects in .data, .bss or thread-local sections; .data.rel.ro is constant once relocated."""
    member = ''
    for line in tool('objdump', '-t', path).splitlines():
        if line.endswith(':') or ': ' in line and 'file format' in line:
            member = line.split(':')[0]
        match = re.match(r'[0-9a-f]+ .{7} (\.data|\.bss|\.tdata|\.tbss|\*COM\*)(\S*)\s+([0-9a-f]+)\s+(\S.*)', line)
        if not match or match.group(2).startswith('.rel.ro') or int(match.group(3), 16) == 0:
            continue
        name = match.group(4).split()[-1]
        if not SANITIZER.match(name):
            problems.append(f'{member}: {name} is writable ({match.group(1)}{match.group(2)})')


def main():
    parser = source.arguments(__doc__)
    parser.add_argument('--shared', help='libgemma.so')
    parser.add_argument('--static', help='libgemma.a')
    args = parser.parse_args()
    problems = []
    wanted = listed(os.path.join(args.root, 'tests/abi/symbols.txt'), problems)
    compare('include', declared(args.root), wanted, problems)
    if args.shared:
        check_shared(args.shared, wanted, problems)
    if args.static:
        check_static(args.static, problems)
    source.finish('symbols', problems, len(wanted))


if __name__ == '__main__':
    main()
