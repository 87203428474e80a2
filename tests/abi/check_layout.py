#!/usr/bin/env python3
"""tests/abi/layout.c asserts the size of every public struct and offset and size of every field, in the order of the
headers and without hidden padding. --write makes it anew: after that, a change in git's diff to a line that was
released is a broken promise."""
import os
import re
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'gates'))
import source  # noqa: E402

SIZES = {'char': 1, 'uint32_t': 4, 'int32_t': 4, 'float': 4, 'uint64_t': 8, 'int64_t': 8, 'double': 8, 'size_t': 8,
         'gemma_progress': 8, 'gemma_task': 8}
HEAD = '''/* The layout of every public struct, for 64-bit targets. A released line never changes; fields are appended.
 * Made by check_layout.py --write, which also checks that no struct or field is missing. */
#include "gemma.h"
#include "gemma/vulkan.h"

#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), "size of " #type)
#define FIELD(type, field, offset, bytes)                                                                              \\
    _Static_assert(offsetof(type, field) == (offset) && sizeof(((type *)0)->field) == (bytes), #type "." #field)

_Static_assert(sizeof(void *) == 8 && sizeof(size_t) == 8, "a 64-bit target");

'''
TAIL = '''
int main(void) { return 0; }
'''


def fields(body):
    """(name, bytes) of each field of a struct's text."""
    for declaration in re.split(r';', body):
        declaration = ' '.join(re.sub(r'\b(const|struct)\b', '', declaration).split())
        if not declaration:
            continue
        pointer = re.search(r'\(\*\s*(\w+)\)', declaration)
        if pointer:
            yield pointer.group(1), 8
            continue
        match = re.match(r'(\w+) (.*)$', declaration)
        for declarator in match.group(2).split(','):
            name = re.search(r'\w+', declarator).group()
            count = re.search(r'\[(\d+)\]', declarator)
            if '*' in declarator:
                yield name, 8
            elif match.group(1) in SIZES:
                yield name, SIZES[match.group(1)] * (int(count.group(1)) if count else 1)
            else:
                raise ValueError(f'{match.group(1)} {name}: not a type of fixed size')


def structs(root):
    for header in source.files(root, ('include',), ('.h',)):
        text = source.code(source.read(root, header), directives=False)
        for match in re.finditer(r'typedef struct (\w+)\s*\{(.*?)\}\s*(\w+)\s*;', text, re.S):
            yield match.group(3), list(fields(match.group(2)))


def lines(root, problems):
    for name, members in structs(root):
        offset, widest, rows = 0, 1, []
        for field, n_bytes in members:
            unit = 1 if n_bytes not in (2, 4, 8) else n_bytes
            if offset % unit:
                problems.append(f'{name}.{field}: hidden padding before offset {offset}')
            widest = max(widest, unit)
            rows.append(f'FIELD({name}, {field}, {offset}, {n_bytes});')
            offset += n_bytes
        if offset % widest:
            problems.append(f'{name}: hidden padding at its end, {offset} bytes')
        if not members or members[0] != ('size', 4):
            problems.append(f'{name}: does not begin with uint32_t size')
        yield [f'SIZE({name}, {offset});'] + rows


def main():
    parser = source.arguments(__doc__)
    parser.add_argument('--write', action='store_true')
    args = parser.parse_args()
    path, problems = os.path.join(args.root, 'tests/abi/layout.c'), []
    try:
        blocks = list(lines(args.root, problems))
    except ValueError as error:
        blocks = []
        problems.append(str(error))
    if args.write:
        with open(path, 'w', encoding='utf-8') as f:
            f.write(HEAD + '\n\n'.join('\n'.join(block) for block in blocks) + '\n' + TAIL)
    with open(path, encoding='utf-8') as f:
        got = [line.strip() for line in f if re.match(r'(SIZE|FIELD)\(', line)]
    wanted = [row for block in blocks for row in block]
    problems += [f'layout.c lacks: {row}' for row in wanted if row not in got]
    problems += [f'layout.c has, but the headers do not: {row}' for row in got if row not in wanted]
    source.finish('layout', problems, len(wanted))


if __name__ == '__main__':
    main()
