#!/usr/bin/env python3
"""Writes tests/data/e2e, tests/data/nano and tests/data/tiny from a folder of goldens.

usage: model_goldens.py GOLDENS

GOLDENS holds gemma3-270m-q4_k_m.golden.jsonl (greedy continuations by an independent float32 implementation: prompt,
ids, gen, logprob, margin, prompt_nll), nano/: a trained miniature of E2B and nano.golden.jsonl of the same form, and
tiny/: random models of Gemma 4's shapes with 100 token ids and the logits of an independent float32 forward pass over
the dequantised weights.

e2e/gemma3-270m.txt and nano/goldens.txt: for each of a few prompts one line `prompt BYTES N_IDS N_GEN NLL`, the prompt's bytes and a
newline, the ids, the generated ids, their log-probabilities, the margins to the runner-up."""
import json
import os
import shutil
import sys

PROMPTS = (0, 1, 3, 8)  # of the golden's lines: the last one is longer than the window
NANO_PROMPTS = (0, 1, 4)
NANO = 'nano-gemma4-e2b.Q8_0.gguf'
TINY = ('tiny-gemma4-e2b', 'tiny-gemma4-dense', 'tiny-gemma4-moe')


def write_prompts(source, target, prompts):
    with open(source, encoding='utf-8') as lines:
        goldens = [json.loads(line) for line in lines]
    with open(target, 'wb') as out:
        for golden in (goldens[i] for i in prompts):
            prompt = golden['prompt'].encode()
            out.write(f"prompt {len(prompt)} {len(golden['ids'])} {len(golden['gen'])} {golden['prompt_nll']}\n".encode())
            out.write(prompt + b'\n')
            for key in ('ids', 'gen', 'logprob', 'margin'):
                out.write((' '.join(map(str, golden[key])) + '\n').encode())


def main():
    goldens = sys.argv[1]
    data = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'data')
    for folder in ('e2e', 'nano', 'tiny'):
        os.makedirs(os.path.join(data, folder), exist_ok=True)
    write_prompts(os.path.join(goldens, 'gemma3-270m-q4_k_m.golden.jsonl'), os.path.join(data, 'e2e', 'gemma3-270m.txt'),
                  PROMPTS)
    write_prompts(os.path.join(goldens, 'nano', 'nano.golden.jsonl'), os.path.join(data, 'nano', 'goldens.txt'),
                  NANO_PROMPTS)
    shutil.copyfile(os.path.join(goldens, 'nano', NANO), os.path.join(data, 'nano', NANO))
    for name in TINY:
        for end in ('.Q4_K_M.gguf', '.Q4_K_M.long.logits.f32', '.long.tokens.i32'):
            shutil.copyfile(os.path.join(goldens, 'tiny', name + end), os.path.join(data, 'tiny', name + end))


if __name__ == '__main__':
    main()
