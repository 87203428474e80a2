#!/usr/bin/env python3
"""Writes the tables of docs/memory.md: which Gemma fits which of the described machines, and how fast it could be.

Usage: hardware_table.py BIN            writes all tables and pictures (BIN: the folder of gemma-plan and synth-model)
       hardware_table.py BIN --check    makes some anew and compares; 77: this build has no Vulkan

The models are headers with the sizes and types of the released ones (tests/models), the machines those of
tests/machines; nothing is loaded. Speeds are what the bandwidth allows, with an empty and with a full context.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / 'docs/memory.md'
BEGIN, END = '<!-- hardware_table.py writes from here -->\n', '<!-- to here -->\n'
TIERS = [
    ('4 GB', [('RTX 3050 Laptop, 4 GB', 'rtx3050-680m-16-windows')]),
    ('8–12 GB', [('RX 580, 8 GB', 'rx580-8-linux'), ('RTX 3060, 12 GB', 'rtx3060-12-windows')]),
    ('16–24 GB', [('RX 9070 XT, 16 GB', 'rx9070xt-16-windows'), ('RTX 4090, 24 GB', 'rtx4090-24-windows')]),
    ('36–64 GB', [('M4 Max, 48 GB', 'm4-max-48-macos'), ('Strix Halo, 64 of 128 GB', 'strix-halo-128-64-windows')]),
    ('96–192 GB', [('Strix Halo, 96 of 128 GB', 'strix-halo-128-96-windows'),
                   ('M3 Ultra, 192 GB', 'm3-ultra-192-macos')]),
]
SIZES = [('Gemma 3 270M', 'gemma3-270m', 32768), ('Gemma 3 1B', 'gemma3-1b', 32768),
         ('Gemma 3 4B', 'gemma3-4b', 131072), ('Gemma 3 12B', 'gemma3-12b', 131072),
         ('Gemma 3 27B', 'gemma3-27b', 131072), ('Gemma 4 E2B', 'gemma4-e2b', 131072),
         ('Gemma 4 E4B', 'gemma4-e4b', 131072), ('Gemma 4 12B', 'gemma4-12b', 262144),
         ('Gemma 4 26B-A4B', 'gemma4-26b-a4b', 262144), ('Gemma 4 31B', 'gemma4-31b', 262144)]
MIXES = ['Q4_0', 'Q4_K_M', 'Q8_0']
PICTURES = [('memory-e4b-4gb', 'gemma4-e4b', 'rtx3050-680m-16-windows', ['--ctx', 8192]),
            ('memory-26b-split', 'gemma4-26b-a4b', 'rtx3060-12-windows', ['--ctx', 32768, '--fit', 'split'])]
SHORT = 4096  # a context below that is no use


def run(program, *arguments):
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True)
    if 'built without Vulkan' in done.stderr:
        print('skipped: built without Vulkan')
        sys.exit(77)
    if done.returncode not in (0, 3):
        sys.exit(f'{program} {" ".join(map(str, arguments))}: {done.stderr}')
    return done.stdout


def plan(binaries, model, machine, ctx, *more):
    return json.loads(run(binaries / 'gemma-plan', '-m', model, '--tier', ROOT / f'tests/machines/{machine}.json',
                          '--device', 'vulkan:0', '--threads', 8, '--json', '--ctx', ctx, *more))


def tokens(n):
    return f'{n // 1024}k' if n >= 1024 else str(n)


def speed(x):
    a, b = x['predict']['decode_tok_s'], x['predict']['decode_full_tok_s']
    return f'{a:.0f}→{b:.0f}' if a > 0 else ''


def in_ram(x):
    """Whether what a split leaves in the mapped file is no more than the RAM that is free."""
    return all(h['mapped'] <= h['left'] for h in x['heaps'] if h['mapped'])


def split(binaries, model, machine):
    x = plan(binaries, model, machine, SHORT, '--fit', 'split')
    if not x['fits'] or not in_ram(x):
        return 'nor split'
    experts = x['split']['experts']
    n = experts or x['split']['layers']
    what = f'{"experts of " if experts else ""}{n} layer{"s" if n > 1 else ""}'
    where = 'CPU' if x['split']['device'] == 'cpu' else 'second GPU'
    return f'split: {what} on the {where} {speed(x)}'.rstrip()


def cell(binaries, model, machine, ctx):
    x = plan(binaries, model, machine, ctx)
    if x['fits']:
        return f'**all {tokens(ctx)}** {speed(x)}'
    plain = [a for a in x['advice'] if a['set']['fit'] == 'refuse' and a['set']['sessions'] == 1 and
             a['set']['kv_global'] == 'f16' and a['set']['ctx'] >= SHORT and a['set']['ctx'] < ctx]
    if plain:
        return f'to {tokens(plain[0]["set"]["ctx"])} {speed(plain[0])}'
    x = plan(binaries, model, machine, SHORT)
    if x['fits']:
        return f'to {tokens(SHORT)} {speed(x)}'
    heap = next((h for h in x['heaps'] if h['left'] < 0), x['heaps'][0])
    return f'no: {heap["planned"] / 2**30:.1f} of {heap["budget"] / 2**30:.1f} GiB; {split(binaries, model, machine)}'


def picture(binaries, size, machine, more, path):
    with tempfile.TemporaryDirectory() as folder:
        model = pathlib.Path(folder) / 'model.gguf'
        run(binaries / 'synth-model', size, 'Q4_K_M', 262144, model, '--header-only')
        run(binaries / 'gemma-plan', '-m', model, '--tier', ROOT / f'tests/machines/{machine}.json', '--device', 'vulkan:0',
            '--threads', 8, '--svg', path, *more)
    return path.read_text(encoding='utf-8')


def check(binaries, old):
    """The tables of the smallest and the largest machines, and the picture in which no CPU has a part."""
    for tier in (TIERS[0], TIERS[-1]):
        made = ''.join(table(binaries, *tier))
        if made not in old:
            sys.exit(f'docs/memory.md is out of date: run tests/generate/hardware_table.py {binaries}\n{made}')
    name, *of = PICTURES[0]
    with tempfile.TemporaryDirectory() as folder:
        made = picture(binaries, *of, pathlib.Path(folder) / 'picture.svg')
    if made != (ROOT / f'docs/{name}.svg').read_text(encoding='utf-8'):
        sys.exit(f'docs/{name}.svg is out of date: run tests/generate/hardware_table.py {binaries}')
    print('tables and picture as in docs')


def table(binaries, tier, machines):
    head = ['model'] + [f'{name}: {mix}' if i == 0 else mix for name, _ in machines for i, mix in enumerate(MIXES)]
    lines = [f'### {tier}\n', '\n', '| ' + ' | '.join(head) + ' |\n', '|---' * len(head) + '|\n']
    for title, size, ctx in SIZES:
        cells = {}
        for mix in MIXES:
            with tempfile.TemporaryDirectory() as folder:
                model = pathlib.Path(folder) / 'model.gguf'
                run(binaries / 'synth-model', size, mix, 262144, model, '--header-only')
                for _, machine in machines:
                    cells[machine, mix] = cell(binaries, model, machine, ctx)
        row = [title] + [cells[machine, mix] for _, machine in machines for mix in MIXES]
        lines.append('| ' + ' | '.join(row) + ' |\n')
    return lines + ['\n']


def main():
    binaries = pathlib.Path(sys.argv[1])
    page = PAGE.read_text(encoding='utf-8')
    before, rest = page.split(BEGIN)
    old, after = rest.split(END)
    if sys.argv[2:] == ['--check']:
        check(binaries, old)
        return
    new = '\n' + ''.join(''.join(table(binaries, *tier)) for tier in TIERS)
    for name, *of in PICTURES:
        picture(binaries, *of, ROOT / f'docs/{name}.svg')
    PAGE.write_text(before + BEGIN + new + END + after, encoding='utf-8')


if __name__ == '__main__':
    main()
