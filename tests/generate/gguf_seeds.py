#!/usr/bin/env python3
"""Writes the seeds of the GGUF fuzz target: small files of every kind of value, tensor and split (most of them valid), each of
them also damaged in one place. Seeded, so that it writes the same files again.

usage: gguf_seeds.py tests/fuzz/corpus/gguf
"""
import pathlib
import random
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q", I64: "<q",
        F64: "<d"}
# type: number, elements and bytes of a block
TENSOR_TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144),
                "Q6_K": (14, 256, 210), "BF16": (30, 1, 2)}


def text(data):
    data = data.encode() if isinstance(data, str) else data
    return struct.pack("<Q", len(data)) + data


def value(kind, data):
    if kind == STRING:
        return text(data)
    if kind == ARRAY:
        element, items = data
        return struct.pack("<IQ", element, len(items)) + b"".join(value(element, item) for item in items)
    return struct.pack(PACK[kind], data)


def gguf(keys=(), tensors=(), version=3, alignment=32):
    """keys: (name, kind, value); tensors: (name, type name, shape)."""
    keys = list(keys)
    if alignment != 32:
        keys.append(("general.alignment", U32, alignment))
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    head += b"".join(text(name) + struct.pack("<I", kind) + value(kind, data) for name, kind, data in keys)
    data = b""
    for name, type_name, shape in tensors:
        number, block, block_bytes = TENSOR_TYPES[type_name]
        n = 1
        for size in shape:
            n *= size
        data += b"\0" * (-len(data) % alignment)
        head += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, number, len(data))
        data += bytes(i % 251 for i in range(n // block * block_bytes))
    return head + (b"\0" * (-len(head) % alignment) + data if data else b"")


def split(no, count, n_tensors, tensors):
    return gguf([("split.no", U16, no), ("split.count", U16, count), ("split.tensors.count", I32, n_tensors)], tensors)


SCALARS = [("a", U8, 200), ("b", I8, -1), ("c", U16, 65535), ("d", I16, -2), ("e", U32, 1 << 31), ("f", I32, -3),
           ("g", F32, 1e-6), ("h", BOOL, True), ("i", U64, 1 << 63), ("j", I64, -4), ("k", F64, 1e300),
           ("l", STRING, "text"), ("m", STRING, b"\xff\x00\xe2\x82")]
ARRAYS = [(chr(ord("a") + kind), ARRAY, (kind, [1, 0, 1])) for kind in PACK] + [
    ("tokenizer.ggml.tokens", ARRAY, (STRING, ["", "a", b"\xe2\x96\x81", "<bos>"])), ("n", ARRAY, (STRING, [])),
    ("o", ARRAY, (U32, []))]
TENSORS = [("w", "F32", (4, 3)), ("x", "Q4_0", (32,)), ("y", "Q8_0", (64, 1, 2)), ("z", "BF16", (3, 1, 1, 2))]

FILES = {
    "empty": gguf(),
    "scalars": gguf(SCALARS),
    "arrays": gguf(ARRAYS),
    "tensors": gguf([("general.architecture", STRING, "gemma3")], TENSORS),
    "tensors-v2": gguf([], TENSORS, version=2),
    "kquant": gguf([], [("k", "Q4_K", (256,)), ("x" * 64, "Q6_K", (256,)), ("h", "F16", (1,))]),
    "align-8": gguf([], TENSORS[:2], alignment=8),
    "align-64": gguf(SCALARS[:3], TENSORS[:2], alignment=64),
    "split-1-of-1": split(0, 1, 1, TENSORS[:1]),
    "split-1-of-2": split(0, 2, 2, TENSORS[:1]),
    "nested": gguf([("a", ARRAY, (ARRAY, [(U8, [1]), (U8, [2])]))]),
    "twins": gguf([("a", U8, 1), ("a", U8, 2)]),
    "twin-tensors": gguf([], [TENSORS[0], TENSORS[0]]),
}
VALUES = (0, 1, 4, 9, 31, 33, 64, 65, 255, 65535, 65536, 1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1)


def damage(data, rng):
    """One of: cut, a byte flipped, a 64-bit or a 32-bit number overwritten."""
    data = bytearray(data)
    how, at = rng.randrange(4), rng.randrange(len(data))
    if how == 0:
        return bytes(data[:at])
    if how == 1:
        data[at] ^= 1 << rng.randrange(8)
        return bytes(data)
    n_bytes = 8 if how == 2 else 4
    at = max(0, min(at, len(data) - n_bytes))
    data[at:at + n_bytes] = (rng.choice(VALUES) & ((1 << 8 * n_bytes) - 1)).to_bytes(n_bytes, "little")
    return bytes(data)


def main():
    folder = pathlib.Path(sys.argv[1])
    rng = random.Random(20240)
    for name, data in FILES.items():
        (folder / f"seed-{name}").write_bytes(data)
        for i in range(6):
            (folder / f"seed-{name}-damaged-{i}").write_bytes(damage(data, rng))


if __name__ == "__main__":
    main()
