#!/usr/bin/env python3
"""embed.py OUT.c MODULE.spv...: SPIR-V modules as C arrays and a table of them, sorted by name."""
import os
import struct
import sys


def words_of(path):
    with open(path, 'rb') as file:
        data = file.read()
    words = struct.unpack(f'<{len(data) // 4}I', data)
    if len(data) % 4 or words[0] != 0x07230203:
        sys.exit(f'{path}: not SPIR-V')
    return words


def main():
    out, *paths = sys.argv[1:]
    names = {os.path.splitext(os.path.basename(path))[0]: path for path in paths}
    text = ['/* Made by shaders/embed.py. */', '#include "backend/vulkan/spirv.h"', '']
    rows = []
    for name in sorted(names):
        words = words_of(names[name])
        lines = [', '.join(f'0x{word:x}' for word in words[i:i + 12]) for i in range(0, len(words), 12)]
        text += [f'static const uint32_t {name}[] = {{', ',\n'.join(lines), '};']
        rows.append(f'    {{ "{name}", {name}, sizeof {name} }},')
    text += ['', 'const gm_spirv gm_spirv_modules[] = {', *rows, '    { 0 },', '};',
             f'const uint32_t gm_spirv_n_modules = {len(rows)};', '']
    with open(out, 'w', encoding='ascii') as file:
        file.write('\n'.join(text))


if __name__ == '__main__':
    main()
