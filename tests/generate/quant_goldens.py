#!/usr/bin/env python3
"""Writes tests/data/quant/<TYPE>.bin, what tests/unit/quant.c compares the decoders with, bit for bit.

Usage: python3 tests/generate/quant_goldens.py          (needs: pip install numpy gguf==0.19.0)

A file is n blocks of random bytes, then n x block float32, little-endian: the results of gguf.quants.dequantize.
The reader finds n from the file's size. Scale fields (f16) are made finite; the first blocks go through zero, negative,
subnormal and extreme scales. The same versions write the same bytes: each type has its own fixed seed.
"""
import pathlib

import gguf
import numpy

N_BLOCKS = 64       # of the formats with blocks
N_PLAIN = 2048      # elements of F32, F16, BF16
# 0, -0, smallest and largest subnormal of either sign, smallest normal, 1, -1, largest of either sign
SCALES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x83FF, 0x0400, 0x3C00, 0xBC00, 0x7BFF, 0xFBFF]
# offsets of the f16 fields of each format
F16_FIELDS = {
    "F32": [], "F16": [], "BF16": [], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
    "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ1_S": [0], "IQ1_M": [],
    "TQ1_0": [52], "TQ2_0": [64], "MXFP4": [], "NVFP4": [],
}


def finite_f16(rng, n):
    """Random bits with the exponent of infinity and NaN made the largest finite one."""
    bits = rng.integers(0, 1 << 16, n, dtype=numpy.uint16)
    return numpy.where((bits & 0x7C00) == 0x7C00, bits & 0xFBFF, bits).astype("<u2")


def walk_grid(name, blocks):
    """Where random indices would miss some of the largest grids: every entry in turn."""
    entries = numpy.arange(blocks.shape[0] * 32).reshape(-1, 32)
    if name == "IQ1_S":  # 2048 entries; three high bits of each of four in a u16
        blocks[:, 2:34] = entries & 255
        high = (entries >> 8 & 7).reshape(-1, 8, 4) << numpy.array([0, 3, 6, 9])
        words = blocks[:, 34:50].copy().view("<u2") & 0xF000 | high.sum(axis=2).astype("<u2")
        blocks[:, 34:50] = words.view(numpy.uint8)
    if name == "IQ2_S":  # 1024 entries; two high bits of each of four in a byte
        blocks[:, 2:34] = entries & 255
        blocks[:, 66:74] = ((entries >> 8 & 3).reshape(-1, 8, 4) << numpy.array([0, 2, 4, 6])).sum(axis=2)


def special_scales(name, blocks, rng):
    """Scales that are no f16 field of their own."""
    if name == "IQ1_M":  # an f16 in the top nibbles of four u16
        scales = finite_f16(rng, blocks.shape[0])
        scales[: len(SCALES)] = SCALES
        words = blocks[:, 48:56].copy().view("<u2") & 0x0FFF
        for i in range(4):
            words[:, i] |= (scales >> 4 * i & 15) << 12
        blocks[:, 48:56] = words.view(numpy.uint8)
    if name == "MXFP4":
        blocks[:5, 0] = [0, 1, 2, 254, 255]
    if name == "NVFP4":
        blocks[:2, :4] = [[0x00, 0x01, 0x07, 0x08], [0x7E, 0x7F, 0x80, 0xFF]]


def random_blocks(name, n_blocks, block_bytes, rng):
    if name == "F16":  # every finite kind and the infinities; NaN payloads differ between machines
        values = finite_f16(rng, n_blocks)
        values[: len(SCALES) + 2] = SCALES + [0x7C00, 0xFC00]
        return values.view(numpy.uint8).reshape(n_blocks, 2)
    blocks = rng.integers(0, 256, (n_blocks, block_bytes), dtype=numpy.uint8)
    for order, offset in enumerate(F16_FIELDS[name]):
        scales = finite_f16(rng, n_blocks)
        # the second field goes through the special scales at another pace, so that they meet in several ways
        special = [SCALES[(i * (order + 1) + 3 * order) % len(SCALES)] for i in range(2 * len(SCALES))]
        scales[: len(special)] = special
        blocks[:, offset : offset + 2] = scales.view(numpy.uint8).reshape(n_blocks, 2)
    special_scales(name, blocks, rng)
    walk_grid(name, blocks)
    return blocks


def main():
    folder = pathlib.Path(__file__).resolve().parent.parent / "data" / "quant"
    folder.mkdir(parents=True, exist_ok=True)
    for name in F16_FIELDS:
        kind = gguf.GGMLQuantizationType[name]
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = random_blocks(name, N_PLAIN if block == 1 else N_BLOCKS, block_bytes,
                               numpy.random.default_rng(1000 + int(kind)))
        stored = blocks.reshape(-1).view({"F32": "<f4", "F16": "<f2"}.get(name, numpy.uint8))
        values = gguf.quants.dequantize(stored if block == 1 and name != "BF16" else blocks, kind)
        data = blocks.tobytes() + numpy.ascontiguousarray(values, dtype="<f4").tobytes()
        assert len(data) == len(blocks) * (block_bytes + 4 * block), name
        (folder / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main()
