#!/usr/bin/env python3
"""C files are as clang-format 14 leaves them; other versions differ in detail, so without 14 this is skipped (77)."""
import re
import shutil
import subprocess
import sys
import source


def clang_format_14():
    for name in ('clang-format-14', 'clang-format'):
        path = shutil.which(name)
        if path and re.search(r'version 14\.', subprocess.run([path, '--version'], stdout=subprocess.PIPE).stdout.decode()):
            return path
    return None


def main():
    args = source.arguments(__doc__).parse_args()
    path = clang_format_14()
    if not path:
        print('format: skipped, there is no clang-format 14')
        sys.exit(77)
    names = [n for n in source.files(args.root, ('lib', 'include', 'examples', 'tests', 'bindings'), ('.c', '.h'))
             if not n.startswith('tests/data/')]
    problems = []
    if names:
        result = subprocess.run([path, '--dry-run', '-Werror', '--style=file', *names], cwd=args.root,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        wrong = re.findall(r'^([^\s:]+:\d+):\d+: error: ', result.stdout.decode(), re.M)
        first = {}
        for place in wrong:
            first.setdefault(place.split(':')[0], place)
        problems = [f'{place}: not formatted; clang-format -i {name}' for name, place in first.items()]
        if result.returncode and not problems:
            problems = [result.stdout.decode().strip()]
    source.finish('format', problems, len(names))


if __name__ == '__main__':
    main()
