#!/usr/bin/env python3
"""What lib/ must not do (end the process, write to stdio, read the environment, hold writable globals, take memory
behind the host's back), notes of unfinished work, and names of the machines this was written on."""
import re
import source

CALLS = ('abort exit _exit _Exit quick_exit atexit assert getenv secure_getenv setenv putenv printf fprintf dprintf sprintf '
         'snprintf vprintf vfprintf vsprintf vsnprintf asprintf vasprintf puts fputs putchar fopen fwrite perror signal '
         'sigaction raise kill setlocale longjmp setjmp system rand srand strtok').split()
HEAP = 'malloc calloc realloc free aligned_alloc posix_memalign memalign strdup strndup alloca'.split()
HEAP_FILES = re.compile(r'lib/base/os_\w+\.c$')  # the default allocator
NOTE = re.compile(r'\b(' + '|'.join(('TO' 'DO', 'FIX' 'ME', 'XX' 'X')) + r')\b')
PLACE = re.compile('|'.join((
    r'/wo' r'rk/', r'\.\./sha' r'red\b', r'/tmp/' r'[wb]/', r'noreply\.r-' r'seed',
    r'https?://(?:[^/\s"\'<>]*\b)?(?:regi' r'stry|mir' r'ror|pro' r'xy|artifac' r'tory|nex' r'us)\b[^/\s]*',
    r'https?://\d+\.\d+\.\d+\.\d+', r'https?://local' r'host\b')))


def call_pattern(names):
    return re.compile(r'(?<![\w.>])(' + '|'.join(names) + r')\s*\(')


def is_writable(head):
    """Whether a declaration without a body (or up to its `=`) makes a variable that can be written."""
    declared = head.split('=')[0]
    if not declared.strip() or re.match(r'\s*(typedef|extern|_Static_assert|static_assert)\b', declared):
        return False
    if re.match(r'\s*(struct|union|enum)\s+\w*\s*$', declared):
        return False
    bracket = re.search(r'\(\s*(\*\s*const\b|\*)?', declared)
    if bracket and not bracket.group(1):
        return False  # a prototype
    if bracket:
        return 'const' not in bracket.group(1)  # a pointer to a function
    pointer = declared.rfind('*')
    return not re.search(r'\bconst\b', declared[pointer + 1:] if pointer >= 0 else declared)


def writable_globals(text):
    """Positions of writable variables: at file scope, and static ones inside functions."""
    text = source.code(text, directives=False)
    for start, head, body, end in source.top_level(text):
        where = start + len(head) - len(head.lstrip())
        if body is not None and source.is_function(head):
            for match in re.finditer(r'(?<![\w])(static|_Thread_local)\s+([^;{}=(]+)[;=\[]', text[body:end]):
                if is_writable(match.group(2) + '= x'):
                    yield text, body + match.start()
        elif body is None or '=' in head:
            if is_writable(head + (' = x' if body is not None else '')):
                yield text, where
        elif re.match(r'\s*static\b', head) or (end is not None and re.match(r'\s*(struct|union|enum)\b', head)
                                                 and text[text.rfind('}', body, end) + 1:end].strip()):
            if is_writable(head + ' = x'):
                yield text, where


def check_library(root, name, problems):
    text = source.read(root, name)
    bare = source.code(text)
    names = CALLS if HEAP_FILES.match(name) else CALLS + HEAP
    for match in call_pattern(names).finditer(bare):
        problems.append(f'{name}:{source.line_of(bare, match.start())}: {match.group(1)}() in lib/')
    for where, position in writable_globals(text):
        line = source.line_of(where, position)
        problems.append(f'{name}:{line}: a writable global: {text.splitlines()[line - 1].strip()}')


def check_text(root, name, problems):
    text = source.read(root, name)
    if '\0' in text[:8000]:
        return
    for match in PLACE.finditer(text):
        problems.append(f'{name}:{source.line_of(text, match.start())}: names a place of its makers: {match.group()}')
    if not name.startswith('tests/data/'):
        for match in NOTE.finditer(text):
            problems.append(f'{name}:{source.line_of(text, match.start())}: unfinished: {match.group()}')


def main():
    args = source.arguments(__doc__).parse_args()
    problems, names = [], source.files(args.root)
    for name in names:
        check_text(args.root, name, problems)
        if name.startswith('lib/') and name.endswith(source.C_SUFFIXES):
            check_library(args.root, name, problems)
    source.finish('forbidden', problems, len(names))


if __name__ == '__main__':
    main()
