#!/usr/bin/env python3
"""Files ≤ 600 lines, functions ≤ 80; exceptions, each with a reason, in size_exceptions.txt."""
import ast
import os
import source

FOLDERS = ('lib', 'include', 'examples', 'tests', 'shaders', 'bindings')
SUFFIXES = source.C_SUFFIXES + source.SHADER_SUFFIXES + ('.py', '.sh', '.cmake')


def functions(name, text):
    """(name, line, lines) of each function."""
    if name.endswith('.py'):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                yield node.name, node.lineno, node.end_lineno - node.lineno + 1
        return
    if not name.endswith(source.C_SUFFIXES + source.SHADER_SUFFIXES):
        return
    text = source.code(text, directives=False)
    for start, head, body, end in source.top_level(text):
        if body is None or not source.is_function(head):
            continue
        first = source.line_of(text, start + len(head) - len(head.lstrip()))
        yield head.split('(')[0].split()[-1].lstrip('*'), first, source.line_of(text, end) - first + 1


def exceptions(path):
    """Lines `path reason` (the file) or `path:function reason`."""
    allowed, problems = set(), []
    if not os.path.exists(path):
        return allowed, problems
    with open(path, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            words = line.split(None, 1)
            if not words or line.startswith('#'):
                continue
            allowed.add(words[0])
            if len(words) < 2:
                problems.append(f'size_exceptions.txt:{number}: {words[0]} has no reason')
    return allowed, problems


def main():
    parser = source.arguments(__doc__)
    parser.add_argument('--file', type=int, default=600)
    parser.add_argument('--function', type=int, default=80)
    args = parser.parse_args()
    allowed, problems = exceptions(os.path.join(args.root, 'tests/gates/size_exceptions.txt'))
    needed, names = set(), [n for n in source.files(args.root, FOLDERS, SUFFIXES) if not n.startswith('tests/data/')]
    for name in names:
        text = source.read(args.root, name)
        n_lines = len(text.splitlines())
        if n_lines > args.file:
            needed.add(name)
            if name not in allowed:
                problems.append(f'{name}: {n_lines} lines, more than {args.file}')
        for function, line, n_lines in functions(name, text):
            if n_lines > args.function:
                needed.add(f'{name}:{function}')
                if f'{name}:{function}' not in allowed:
                    problems.append(f'{name}:{line}: {function} has {n_lines} lines, more than {args.function}')
    problems += [f'size_exceptions.txt: {name} is no longer needed' for name in sorted(allowed - needed)]
    source.finish('size', problems, len(names))


if __name__ == '__main__':
    main()
