#!/usr/bin/env python3
"""Writes lib/quant/grids.c, the lookup grids of the IQ formats, packed from the tables of the gguf package (MIT), and
shaders/common/grids.glsl, those that kernels use.

Usage: python3 tests/generate/quant_grids.py          (needs: pip install numpy gguf==0.19.0)

A grid's values are few, so an entry is stored as the indices of its values in ascending order: eight of 2 bits or
four of 3 bits, the first element lowest.
"""
import pathlib

import gguf
import numpy

PER_LINE = 14  # what 120 columns hold, as clang-format would fill them
WORDS_PER_LINE = 9
SHADERS = ["iq3_xxs", "iq3_s"]
GRIDS = [("IQ2_XXS", "iq2_xxs", 2), ("IQ2_XS", "iq2_xs", 2), ("IQ2_S", "iq2_s", 2),
         ("IQ3_XXS", "iq3_xxs", 3), ("IQ3_S", "iq3_s", 3), ("IQ1_S", "iq1", 2)]


def packed(name, bits):
    kind = getattr(gguf.quants, name)
    kind.init_grid()
    grid = numpy.asarray(kind.grid).reshape(kind.grid_shape)
    values = sorted(kind.grid_map)
    assert len(values) <= 1 << bits and bits * grid.shape[1] <= 16, name
    codes = numpy.searchsorted(values, grid)
    assert (numpy.take(values, codes) == grid).all(), name
    return [sum(int(code) << bits * i for i, code in enumerate(row)) for row in codes]


def shader_lines(c_name, entries):
    words = [f"0x{entries[i] | entries[i + 1] << 16:08x}u" for i in range(0, len(entries), 2)]
    rows = ["    " + ", ".join(words[i : i + WORDS_PER_LINE]) for i in range(0, len(words), WORDS_PER_LINE)]
    return [f"#{'elif' if c_name != SHADERS[0] else 'if'} defined(FORMAT_{c_name.upper()})",
            f"const uint grid_words[{len(words)}] = uint[](", ",\n".join(rows) + ");"]


def main():
    shader = ["/* The grids of IQ3_XXS and IQ3_S (lib/quant), two entries a word, the first one low: four codes of 3 bits each, the",
              " * first element lowest. Written by tests/generate/quant_grids.py. */"]
    lines = ["/* Written by tests/generate/quant_grids.py. */", '#include "quant/families.h"']
    for name, c_name, bits in GRIDS:
        entries = packed(name, bits)
        lines += ["", f"const uint16_t gm_grid_{c_name}[{len(entries)}] = {{"]
        for i in range(0, len(entries), PER_LINE):
            lines.append("    " + " ".join(f"0x{e:04x}," for e in entries[i : i + PER_LINE]))
        lines.append("};")
        if c_name in SHADERS:
            shader += shader_lines(c_name, entries)
    root = pathlib.Path(__file__).resolve().parents[2]
    (root / "lib" / "quant" / "grids.c").write_text("\n".join(lines) + "\n")
    (root / "shaders" / "common" / "grids.glsl").write_text("\n".join(shader + ["#endif"]) + "\n")


if __name__ == "__main__":
    main()
