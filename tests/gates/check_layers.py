#!/usr/bin/env python3
"""An #include in lib/ points to a lower level's front header or to its own folder; the operating system's headers stay
in lib/base; only lib/api names a concrete backend; examples and bindings use public headers only."""
import os
import re
import source

LEVELS = {
    'base': 0, 'quant': 1, 'tokenizer': 1, 'sampler': 1, 'gguf': 2, 'op': 2, 'chat': 2, 'backend': 3, 'kv': 3,
    'backend/cpu': 3, 'backend/dummy': 3, 'backend/vulkan': 3, 'model': 4, 'plan': 4, 'weights': 5, 'session': 6,
    'api': 7,
}
SAME_LEVEL = {('plan', 'model'), ('backend/cpu', 'backend'), ('backend/dummy', 'backend'), ('backend/vulkan', 'backend')}
OS_HEADER = re.compile(r'(unistd|windows|pthread|fcntl|dlfcn|sched|signal|poll|termios|io|process|psapi|winsock2|'
                       r'threads|cpuid|sys/.*|mach/.*|linux/.*)\.h$', re.I)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


def folder_of(path):
    """'backend/cpu' for backend/cpu/x86/dot.c: the longest folder that has a level; None for other folders."""
    parts = path.split('/')[:-1]
    while parts and '/'.join(parts) not in LEVELS:
        parts.pop()
    return '/'.join(parts) or None


def front_header(folder):
    return f'{folder}/{folder.split("/")[-1]}.h'


def library_problem(root, name, target):
    """What is wrong with `#include "target"` in lib/<name>, or None."""
    own = folder_of(name)
    if own is None:
        return f'lib/{name} lies in no known folder'
    if target == 'gemma.h' or target.startswith('gemma/'):
        return None
    if os.path.exists(os.path.join(root, 'lib', os.path.dirname(name), target)):
        target = os.path.normpath(os.path.join(os.path.dirname(name), target)).replace(os.sep, '/')
    other = folder_of(target)
    if other is None:
        return f'"{target}" lies in no known folder'
    if other == own:
        return None
    if '/' in other and own != 'api':
        return f'"{target}": only lib/api names a concrete backend'
    if LEVELS[other] >= LEVELS[own] and (own, other) not in SAME_LEVEL:
        return f'"{target}" is of level {LEVELS[other]}, {own} of level {LEVELS[own]}'
    if target != front_header(other):
        return f'"{target}" is private to {other}; its front is "{front_header(other)}"'
    return None


def includes(root, name):
    text = source.read(root, name)
    for match in INCLUDE.finditer(re.sub(r'/\*.*?\*/', lambda m: source.blank(m.group()), text, flags=re.S)):
        yield source.line_of(text, match.start()), match.group(1), match.group(2)


def check_library(root, name, problems):
    inner = name[len('lib/'):]
    for line, kind, target in includes(root, name):
        problem = None
        if kind == '"':
            problem = library_problem(root, inner, target)
        elif target.startswith('vulkan/') and folder_of(inner) != 'backend/vulkan':
            problem = f'<{target}>: only lib/backend/vulkan includes a Vulkan header'
        elif OS_HEADER.match(target) and folder_of(inner) != 'base':
            problem = f'<{target}>: the operating system stays in lib/base'
        if problem:
            problems.append(f'{name}:{line}: {problem}')


def check_user(root, name, problems):
    for line, kind, target in includes(root, name):
        beside = os.path.exists(os.path.join(root, os.path.dirname(name), target))
        if kind == '"' and not beside and target != 'gemma.h' and not target.startswith('gemma/'):
            problems.append(f'{name}:{line}: "{target}" is not a public header')


def main():
    args = source.arguments(__doc__).parse_args()
    problems, n = [], 0
    for name in source.files(args.root, ('lib', 'examples', 'bindings'), source.C_SUFFIXES):
        n += 1
        (check_library if name.startswith('lib/') else check_user)(args.root, name, problems)
    source.finish('layers', problems, n)


if __name__ == '__main__':
    main()
