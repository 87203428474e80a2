"""What the gates share: which files there are, C text without comments and strings, how a gate reports."""
import argparse
import os
import re
import shutil
import subprocess
import sys

C_SUFFIXES = ('.c', '.h', '.inc', '.cc', '.cpp', '.hpp')
SHADER_SUFFIXES = ('.comp', '.glsl')


def arguments(description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('--root', default=os.path.join(os.path.dirname(__file__), '..', '..'), help='of the source tree')
    return parser


def files(root, folders=(), suffixes=()):
    """Paths below root, with /: what git tracks or would track; everything where there is no git."""
    found = None
    if os.path.exists(os.path.join(root, '.git')) and shutil.which('git'):
        git = subprocess.run(['git', '-C', root, 'ls-files', '-z', '--cached', '--others', '--exclude-standard'],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if git.returncode == 0:
            found = git.stdout.decode().split('\0')
    if found is None:
        found = []
        for path, folders_here, names in os.walk(root):
            folders_here[:] = [f for f in folders_here if f not in ('.git', 'build', '__pycache__')]
            if 'CMakeCache.txt' in names:  # a build folder of another name
                folders_here.clear()
                continue
            found += [os.path.relpath(os.path.join(path, name), root).replace(os.sep, '/') for name in names]
    return sorted(name for name in set(found)
                  if (not folders or name.split('/')[0] in folders)
                  and (not suffixes or name.endswith(tuple(suffixes)))
                  and os.path.isfile(os.path.join(root, name)))


def read(root, name):
    with open(os.path.join(root, name), encoding='utf-8', errors='replace', newline='') as f:
        return f.read().replace('\r\n', '\n')


TOKENS = re.compile(r'//(?:\\\n|[^\n])*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
DIRECTIVE = re.compile(r'^[ \t]*#(?:[^\\\n]|\\\n|\\.)*', re.M)


def blank(text):
    return re.sub(r'[^\n]', ' ', text)


def code(text, directives=True):
    """The text with comments blanked and strings emptied, lines kept; without preprocessor lines if so wanted."""
    def shorten(match):
        token = match.group()
        return token[0] + blank(token[1:-1]) + token[-1] if token[0] in '"\'' else blank(token)
    text = TOKENS.sub(shorten, text)
    return text if directives else DIRECTIVE.sub(lambda m: blank(m.group()), text)


def line_of(text, position):
    return text.count('\n', 0, position) + 1


def top_level(text):
    """The pieces of C text outside all braces: (start, head, body_start, body_end), body_* None where it ends in `;`.
    `text` comes from code(…, directives=False). The inside of extern "C" { } counts as outside."""
    start, depth, body, position = 0, 0, None, 0
    for match in re.finditer(r'[{};]', text):
        position, mark = match.start(), match.group()
        if mark == '{':
            if depth == 0 and re.search(r'\bextern\s*"[^"]*"\s*$', text[start:position]):
                start = position + 1
                continue
            if depth == 0 and body is None:
                body = position
            depth += 1
        elif mark == '}':
            if depth == 0:
                start = position + 1
                continue
            depth -= 1
            head = text[start:body]
            if depth == 0 and is_function(head):
                yield start, head, body, position
                start, body = position + 1, None
        elif depth == 0:
            yield (start, text[start:position], None, None) if body is None else (start, text[start:body], body, position)
            start, body = position + 1, None


def is_function(head):
    return bool(re.search(r'\)\s*(?:[A-Za-z_]\w*(?:\s+|$))*$', head)) and not re.match(r'\s*(typedef|enum)\b', head) \
        and '=' not in head


def finish(gate, problems, n_checked):
    for problem in problems:
        print(problem)
    print(f'{gate}: {n_checked} checked, {len(problems)} wrong')
    sys.exit(1 if problems else 0)
