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
}


def finite_f16(rng, n):
    """Random bits with the exponent of infinity and NaN made the largest finite one."""
    bits = rng.integers(0, 1 << 16, n, dtype=numpy.uint16)
    return numpy.where((bits & 0x7C00) == 0x7C00, bits & 0xFBFF, bits).astype("<u2")


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
