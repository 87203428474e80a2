#!/bin/sh
# bench.sh BIN: what gemma-bench prints and refuses, on a tiny model; no time is asserted. Skips (77) without python3.
. "$(dirname "$0")/programs.sh"

# expect CODE WORDS ARGUMENT...: exit code, and words of stderr.
expect()
{
    code=$1 words=$2
    shift 2
    got=0
    "$bin/gemma-bench" -m "$model" --device cpu --threads 2 "$@" > out 2> err < /dev/null || got=$?
    [ "$got" = "$code" ] || fail "gemma-bench $*: exit code $got, not $code"
    [ -z "$words" ] || grep -q -- "$words" err || fail "gemma-bench $*: stderr does not say \"$words\""
}
# check EXPRESSION: over `x`, the JSON in the file out, and `near(a, b)`.
check()
{
    python3 -c "
import json
def near(a, b): return abs(a - b) <= 1e-3 * abs(b) + 1e-6
x = json.load(open('out'))
assert $1, x" || fail "not so: $1"
}

# ---- JSON: every key, and what they say of one another ----
expect 0 "" -p 16 -n 4 -r 3 -o json
check "[t['test'] for t in x] == ['pp16', 'tg4']"
check "[(t['n_prompt'], t['n_gen'], t['depth']) for t in x] == [(16, 0, 0), (0, 4, 0)]"
check "all({'test', 'n_prompt', 'n_gen', 'depth', 'device', 'tok_s', 'gb_s', 'measured_gb_s', 'bandwidth_pct', \
'predicted_tok_s', 'bytes_per_token', 'dispatches', 'submits'} <= set(t) for t in x)"
check "all(t['tok_s']['best'] >= t['tok_s']['median'] > 0 and t['device'] == 'cpu' for t in x)"
check "all(near(t['gb_s'], t['bytes_per_token'] * t['tok_s']['median'] * 1e-9) for t in x)"
check "all(near(t['bandwidth_pct'], 100 * t['gb_s'] / t['measured_gb_s']) for t in x)"
check "all(t['predicted_tok_s'] > 0 and t['dispatches'] > 10 and t['submits'] == 1 for t in x)"
check "all(p['dispatch_us'] > 0 and p['read_gb_s'] > 0 for t in x for p in t['probes'])"
check "not any('host_calls' in t for t in x)"
cp out short
# A prompt reads the weights once for all of its rows, and not the head; a token reads them for itself, and KV on top.
check "x[0]['bytes_per_token'] < x[1]['bytes_per_token'] / 16"
"$bin/gemma-plan" -m "$model" --device cpu --no-probe --json > plan
check "x[1]['bytes_per_token'] > json.load(open('plan'))['predict']['bytes_per_token']"
expect 0 "" -p 16 -n 4 -r 1 -o json -d 300
check "[t['depth'] for t in x] == [300, 300]"
check "all(t['bytes_per_token'] > s['bytes_per_token'] for t, s in zip(x, json.load(open('short'))))"
expect 0 "" -p 16 -n 0 -r 1 -o json --ubatch 8
check "x[0]['bytes_per_token'] > 1.9 * json.load(open('short'))[0]['bytes_per_token']" # two steps
expect 0 "" -p 16 -n 4 -r 1 --json --host-threads
check "all(t['host_calls'] == t['dispatches'] for t in x)"
expect 0 "" -n 4 -p 0 -r 1 --host-threads
grep -q "host's parallel_for, tg4 at depth 0: [0-9]* calls a token, each" out || fail "the host's threads are not told of"

# ---- CSV and Markdown ----
expect 0 "" -p 16 -n 4 -r 1 -o csv -d 10
python3 - << 'END' || fail "no good CSV"
import csv
rows = list(csv.DictReader(open('out', newline='')))
assert [r['test'] for r in rows] == ['pp16', 'tg4'] and all(None not in r and None not in r.values() for r in rows)
assert all(r['depth'] == '10' and r['device'] == 'cpu' and float(r['best_tok_s']) > 0 for r in rows), rows
assert all(float(r['bytes_per_token']) > 0 and int(r['dispatches']) > 10 and r['submits'] == '1' for r in rows), rows
END
expect 0 "" -p 16 -n 4 -r 1
python3 - << 'END' || fail "no good table"
table = [line for line in open('out') if line.startswith('|')]
assert len(table) == 4 and len({line.count('|') for line in table}) == 1, table
assert table[2].startswith('| pp16 | 0 |') and table[3].startswith('| tg4 | 0 |'), table
END
grep -q "memory reads at [0-9.]* GB/s" out || fail "the bandwidth measured is not told"

# ---- a sweep and its picture ----
expect 0 "" --sweep -d 1500 -n 2 -r 1 -o json --svg sweep.svg
check "[(t['test'], t['depth']) for t in x] == [('tg2', d) for d in (0, 512, 1024, 1500)]"
check "[t['bytes_per_token'] for t in x] == sorted(t['bytes_per_token'] for t in x)"
python3 - << 'END' || fail "no good picture"
import xml.etree.ElementTree as et
root = et.parse('sweep.svg').getroot()
s = '{http://www.w3.org/2000/svg}'
assert len(root.findall(s + 'polyline')) == 3 and len(root.findall(s + 'circle')) == 12
words = ' '.join(t.text for t in root.iter(s + 'text'))
for w in ('tokens per second', 'share of the measured bandwidth', 'depth', 'GB/s', 'predicted', '50 %'):
    assert w in words, (w, words)
assert 'fit' not in words
for line in root.findall(s + 'polyline'):
    points = [tuple(map(float, p.split(','))) for p in line.get('points').split()]
    assert len(points) == 4 and points == sorted(points), points
    assert all(72 <= x <= 832 and 100 <= y <= 520 for x, y in points), points
END
expect 0 "" --sweep --ctx 600 -n 2 -p 4 -r 1 -o json
check "[(t['test'], t['depth']) for t in x] == [(k, d) for d in (0, 512, 596) for k in ('pp4', 'tg2')]"
# The cliff: what does not fit is left out and marked.
expect 0 "" --sweep -d 65536 -n 2 -r 1 -o json --svg cliff.svg --ram 150 --ubatch 64
check "0 < x[-1]['depth'] < x[-1]['fits_ctx'] < 65536"
grep -q "fits no more beyond" cliff.svg || fail "the cliff is not marked"

# ---- what is refused, before anything long ----
expect 2 "-d takes a whole number from 0" -d -3
expect 2 "-r takes a whole number from 1" -r 0
expect 1 "more than the 262144 this model holds: at most -d 261632" -d 262000
expect 1 "300000 tokens to run are more than" -p 300000
expect 1 "ctx 100 is less than the 512 tokens" --ctx 100
expect 2 "give --sweep too" --svg x.svg
expect 1 "cannot write nowhere/x.svg" --sweep --svg nowhere/x.svg
expect 2 "leaves nothing to draw" --sweep -n 0 -p 4 --svg x.svg
expect 2 "nothing to measure" -n 0 -p 0
expect 2 "takes md, json or csv" -o xml
echo kept > old.svg
expect 3 "needs" --sweep --svg old.svg --ram 128
[ "$(cat old.svg)" = kept ] && [ ! -e x.svg ] || fail "a picture was touched by a run that failed"
echo "all as it should be"
