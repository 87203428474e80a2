#!/usr/bin/env python3
"""Cuts a real vocabulary down to what a set of golden texts can touch, and writes both for tests/unit/tokenizer.c.

    tokenizer_goldens.py VOCABULARY.gguf GOLDENS.jsonl OUT.bin [--full]

Goldens are lines {"text": ..., "ids": [...]}: special tokens parsed, no BOS. Kept are all tokens that are not normal,
all normal tokens that occur in a golden text (or in one of EXTRA, which the test program spells out), and all merges
between kept tokens with a kept result. A pair of symbols merges only if its joined text is a token, and that text
occurs in the input; so on these texts the cut vocabulary gives the ids of the whole one. Ids are the original ones; the
others become tokens without text, of type unused. --full keeps everything.

OUT, little-endian: u32 bpe, n_tokens; i32 bos, eos, unknown, padding; u32 n, n x (u32 id, f32 score, u8 type, u8 length,
text); u32 n, n x (u32 left id, u32 right id) in order of rank; u32 n, n x (u32 length, text, u32 length, i32 ids)."""
import json
import struct
import sys

MARK = "\u2581"
EXTRA = [
    " ", "  ", "\n", "\t", "Hello world", " Hello world", "Hello, world!", "3333", "I'm", "a\r\nb",
    "ied 4 \u00bd months", "\u00c4pfel", "\u65e5\u672c\u8a9e", "\U0001f999", "x\u00a0y", "foo\n\n\nbar", "\n" * 40,
    "    if x:\n\t\treturn 1\n", "system\nBe brief.\nuser\nHi\nmodel\n", "call:get_weather{city:Paris}", " " * 40,
    "\t" * 40, "a" * 40, "=" * 80, "-" * 80, "user text model thought response", "The quick brown fox. ",
    "[multimodal]", "<start_of_image>", "<end_of_image>", "<table>", "</s>",
]
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_metadata(path):
    """Key -> value of a GGUF file; strings as bytes."""
    data = memoryview(open(path, "rb").read(64 << 20))
    at = 0

    def number(code):
        nonlocal at
        value = struct.unpack_from("<" + code, data, at)[0]
        at += struct.calcsize(code)
        return value

    def string():
        nonlocal at
        n = number("Q")
        at += n
        return bytes(data[at - n:at])

    def value(kind):
        nonlocal at
        if kind == 8:
            return string()
        if kind != 9:
            return number(NUMBERS[kind])
        kind, n = number("I"), number("Q")
        if kind in (8, 9):
            return [value(kind) for _ in range(n)]
        code = f"<{n}{NUMBERS[kind]}"
        at += struct.calcsize(code)
        return list(struct.unpack_from(code, data, at - struct.calcsize(code)))

    if number("I") != 0x46554747:
        sys.exit(f"{path}: not a GGUF file")
    number("I"), number("Q")
    return {string().decode(): value(number("I")) for _ in range(number("Q"))}


def occurring(texts, longest):
    found = set()
    for text in texts:
        text = text.replace(" ", MARK)
        for start in range(len(text)):
            for end in range(start + 1, min(len(text), start + longest) + 1):
                found.add(text[start:end].encode())
    return found


def main():
    vocabulary, goldens, out = sys.argv[1:4]
    full = "--full" in sys.argv
    meta = read_metadata(vocabulary)
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    scores = meta["tokenizer.ggml.scores"]
    merges = meta.get("tokenizer.ggml.merges", [])
    lines = [json.loads(line) for line in open(goldens, encoding="utf-8")]

    texts = occurring([line["text"] for line in lines] + EXTRA, max(len(t.decode(errors="replace")) for t in tokens))
    kept = [i for i, t in enumerate(tokens) if full or types[i] != 1 or t in texts]
    ids = {tokens[i]: i for i in kept}
    pairs = []
    for merge in merges:
        space = merge.index(b" ", 1)
        left, right = merge[:space], merge[space + 1:]
        if left in ids and right in ids and left + right in ids:
            pairs.append((ids[left], ids[right]))

    special = [meta.get(f"tokenizer.ggml.{name}_token_id", -1) for name in ("bos", "eos", "unknown", "padding")]
    with open(out, "wb") as file:
        file.write(struct.pack("<2I4i", bool(merges), len(tokens), *special))
        file.write(struct.pack("<I", len(kept)))
        for i in kept:
            file.write(struct.pack("<IfBB", i, scores[i], types[i], len(tokens[i])) + tokens[i])
        file.write(struct.pack("<I", len(pairs)))
        for pair in pairs:
            file.write(struct.pack("<2I", *pair))
        file.write(struct.pack("<I", len(lines)))
        for line in lines:
            text = line["text"].encode()
            file.write(struct.pack("<I", len(text)) + text)
            file.write(struct.pack(f"<I{len(line['ids'])}i", len(line["ids"]), *line["ids"]))
    print(f"{out}: {len(kept)} tokens, {len(pairs)} merges, {len(lines)} lines")


if __name__ == "__main__":
    main()
