#!/bin/sh
# tools.sh BIN: what the command-line programs say and return, on a tiny model. Skips (77) without python3.
. "$(dirname "$0")/programs.sh"

# expect CODE WORDS PROGRAM ARGUMENT...: exit code, and words of stderr (one sentence where it is an error).
expect()
{
    code=$1 words=$2 program=$3
    shift 3
    got=0
    "$bin/$program" "$@" > out 2> err < /dev/null || got=$?
    [ "$got" = "$code" ] || fail "$program $*: exit code $got, not $code"
    [ -z "$words" ] || grep -q -- "$words" err || fail "$program $*: stderr does not say \"$words\""
}
# check EXPRESSION: over `x`, the JSON in the file out.
check()
{
    python3 -c "import json; x = json.load(open('out')); assert $1, x" || fail "not so: $1"
}

expect 0 "" gemma-watch --help
grep -q "Usage: gemma-watch" out || fail "gemma-watch --help has no usage"
for program in gemma-chat gemma-plan gemma-bench gemma-tokenize gemma-eval; do
    case $program in
        gemma-eval) set -- --ppl err ;;
        gemma-chat) set -- -p hello ;;
        *) set -- ;;
    esac
    expect 2 "no model" $program "$@"
    expect 1 "nowhere.gguf: cannot open" $program -m nowhere.gguf "$@"
    expect 1 "not a GGUF" $program -m "$here/e2e/tools.sh" "$@"
    expect 2 "bogus" $program -m "$model" "$@" --bogus
    expect 2 "unexpected argument" $program -m "$model" "$@" stray
    expect 2 "--threads takes a whole number" $program -m "$model" "$@" --threads many
    expect 2 "no KV type" $program -m "$model" "$@" --kv q3
    expect 2 "--fit takes" $program -m "$model" "$@" --fit please
    expect 0 "" $program --help
    grep -q "Usage: $program" out || fail "$program --help has no usage"
    expect 0 "" $program --version
    grep -q "libgemma [0-9]" out || fail "$program --version says no version"
done
for program in gemma-chat gemma-plan gemma-bench; do
    expect 1 'no device "toaster"; there are: cpu' $program -m "$model" --device toaster
    expect 1 "ctx is 1000000; at most 262144" $program -m "$model" --ctx 1000000
done
expect 2 "give one of" gemma-eval -m "$model"
expect 1 "cannot read missing.txt" gemma-eval -m "$model" --ppl missing.txt
head -c 1000000 "$model" > cut.gguf
expect 1 "cut.gguf" gemma-plan -m cut.gguf --no-probe

# More than any machine has: every session may hold the whole context.
huge="--no-probe --sessions 1024 --ctx 262144 --kv f32"
expect 3 "needs .* may be used" gemma-plan -m "$model" $huge
grep -q "This would fit" err || fail "no advice"
grep -q "the mapped weights are more" out && fail "what does not fit for its KV is blamed on the mapped file"
expect 3 "needs" gemma-plan -m "$model" $huge --json
check "x['fits'] is False and x['heaps'][0]['left'] < 0 and len(x['advice']) > 0"
check "all(a['planned'] <= x['heaps'][0]['budget'] and a['set']['ctx'] > 0 for a in x['advice'])"
check "all(set(a['predict']) == set(x['predict']) and a['predict']['bytes_per_token'] > 0 for a in x['advice'])"
check "all(a['set']['fit'] == 'refuse' and a['set']['map'] for a in x['advice'])"
expect 0 "" gemma-plan -m "$model" $huge --json --fit shrink
check "x['fits']"

expect 0 "" gemma-plan -m "$model" --json --no-probe
check "set(x) == {'fits', 'heaps', 'predict', 'advice'} and x['fits'] is True and x['advice'] == []"
check "all(sum(h['classes'].values()) == h['planned'] for h in x['heaps'])"
check "all(h['budget'] - h['planned'] == h['left'] for h in x['heaps'])"
check "{'decode_tok_s', 'decode_full_tok_s', 'prefill_tok_s', 'bytes_per_token', 'measured'} <= set(x['predict'])"
check "x['predict']['measured'] is False and x['predict']['bytes_per_token'] > 1000000"
cp out mapped
expect 0 "" gemma-plan -m "$model" --json --no-probe --no-map
check "x['heaps'][0]['mapped'] == 0 and x['heaps'][0]['planned'] > json.load(open('mapped'))['heaps'][0]['planned']"
check "{'ffn', 'attention', 'kv global', 'kv sliding', 'scratch', 'staging'} <= set(x['heaps'][0]['classes'])"

check "all(h['reported'] and h['name'] for h in x['heaps'])"

# Where bytes lie: the reference and the CPU are two devices everywhere.
two="-m $model --no-probe --device reference --json"
bytes_of="sum(h['classes'].get('ffn', 0) for h in x['heaps'] if h['device'] == "
expect 0 "" gemma-plan $two --no-map
check "[h['device'] for h in x['heaps']] == ['reference'] and 'cpu' not in str(x['heaps'])"
expect 0 "" gemma-plan $two --no-map --place ffn=cpu
check "$bytes_of 'cpu') > 0 == $bytes_of 'reference')"
cp out whole
expect 0 "" gemma-plan $two --no-map --place ffn:odd=cpu --place ffn:1=memory
check "0 < $bytes_of 'cpu') < $bytes_of 'reference') < json.load(open('whole'))['heaps'][1]['planned']"
expect 0 "" gemma-plan $two --no-map --place ffn:even=cpu --place ffn:odd=cpu
check "$bytes_of 'cpu') > $bytes_of 'reference')" # what is left there is of no layer
expect 0 "" gemma-plan $two --no-map --place all:0-1=cpu --place kv=cpu
check "[('kv global' in h['classes'], 'kv sliding' in h['classes']) for h in x['heaps']] == [(False,) * 2, (True,) * 2]"
expect 0 "" gemma-plan -m "$model" --no-probe --device cpu --json --place all=memory
check "x['heaps'][0]['mapped'] == 0 and x['heaps'][0]['classes']['per-layer embedding'] > 0"
expect 0 "" gemma-plan -m "$model" --no-probe --device cpu --json --no-map --place ple=memory
check "x['heaps'][0]['file'] == 0 and x['heaps'][0]['classes']['per-layer embedding'] > 0"
expect 0 "" gemma-plan -m "$model" --no-probe --device cpu --json --no-map --place per-layer-embedding=file
check "x['heaps'][0]['file'] > 0 and 'per-layer embedding' not in x['heaps'][0]['classes']"
refused()
{
    expect 2 "$2" gemma-plan -m "$model" --no-probe --device cpu --place "$1"
}
refused ffn "takes CLASS\[:LAYERS\]=HOME"
refused ffn= "takes CLASS"
refused norms=cpu "\"norms\" is no class of bytes that can be placed; there are: embedding, ple"
refused ffn:x=cpu "names no layers"
refused ffn:=cpu "names no layers"
refused ffn:5-3=cpu "names no layers"
refused ffn:-3=cpu "names no layers"
refused ffn=toaster 'no device "toaster"; there are: cpu'
refused ffn=auto '"auto" is no home'
refused experts=cpu "this model has nothing of that class"
refused ffn:99=cpu "nothing of that class in those layers; the model has layers 0 to"
refused kv=file "kv .* cannot lie there; there is: cpu"
refused ffn=reference "ffn cannot lie there; there is: cpu, file"

expect 0 "" gemma-plan -m "$model" --no-probe --no-map --svg bill.svg
python3 - << 'END' || fail "the picture is not what it should be"
import xml.etree.ElementTree as tree
root = tree.parse('bill.svg').getroot()
assert root.tag == '{http://www.w3.org/2000/svg}svg'
text = ' '.join(t for t in root.itertext())
assert all(word in text for word in ('RAM', 'budget', 'may be used', 'attention', 'kv global', 'a row read for every token'))
boxes = [r for r in root.iter('{http://www.w3.org/2000/svg}rect') if r.find('{http://www.w3.org/2000/svg}title') is not None]
assert len(boxes) > 5 and all(float(r.get('x')) + float(r.get('width')) <= 841 for r in boxes)
END
expect 1 "cannot write nowhere/bill.svg" gemma-plan -m "$model" --no-probe --svg nowhere/bill.svg

# Described machines: the devices and the memory are theirs, whatever this machine has.
machines=$here/machines
"$bin/gemma-plan" -m "$model" --tier "$machines/rx580-8-linux.json" > out 2> err || true
if grep -q "built without Vulkan" err; then
    echo "skipped: --tier, built without Vulkan"
else
    for machine in "$machines"/*.json; do
        expect 0 "" gemma-plan -m "$model" --json --tier "$machine"
        check "x['fits'] and x['tier'] and x['tier'] == '$(basename "$machine" .json)' and not x['predict']['measured']"
    done
    expect 0 "" gemma-plan -m "$model" --json --tier "$machines/rtx3050-680m-16-windows.json"
    check "[h['device'] for h in x['heaps']] == ['vulkan:0'] * 2 and x['heaps'][0]['budget'] < 3533071975"
    check "abs(x['predict']['decode_tok_s'] * x['predict']['bytes_per_token'] / 192e9 - 1) < 0.1"
    expect 0 "" gemma-plan -m "$model" --tier "$machines/rtx3050-680m-16-windows.json" --device radeon
    expect 1 'no device "vulkan:1"' gemma-plan -m "$model" --tier "$machines/rtx4090-24-windows.json" --device vulkan:1
    expect 3 "RTX 4090 · VRAM: needs .* may be used" gemma-plan -m "$model" $huge --device vulkan \
        --tier "$machines/rtx4090-24-windows.json"
    many="--sessions 16 --ctx 262144 --kv f32 --device vulkan --tier $machines/rtx3050-680m-16-windows.json"
    expect 3 "it would fit" gemma-plan -m "$model" $many --json
    check "[a['split']['device'] in ('cpu', 'vulkan:1') for a in x['advice'] if a['set']['fit'] == 'split'] == [True]"
    check "all(a['predict']['decode_tok_s'] > 0 for a in x['advice'])"
    expect 3 "--fit split .*tok/s.*: layer.* on .*, the rest on vulkan:0 (NVIDIA" gemma-plan -m "$model" $many
    expect 0 "" gemma-plan -m "$model" $many --fit split
    grep -q "split: layer.* on .*, the rest on vulkan:0" out || fail "it is not said what went where"
    expect 0 "" gemma-plan -m "$model" $many --fit split --json
    check "x['split']['layers'] > 0 and len({h['device'] for h in x['heaps']}) == 2"
    # A GPU's carve-out is no part of the RAM: more fits there than the system has.
    expect 0 "" gemma-plan -m "$model" --sessions 160 --ctx 262144 --kv f32 --device vulkan --json \
        --tier "$machines/strix-halo-128-96-windows.json"
    check "sum(h['planned'] for h in x['heaps']) > 32 * 2**30"
    expect 3 "shared memory: needs" gemma-plan -m "$model" --sessions 480 --ctx 262144 --kv f32 --device vulkan --json \
        --tier "$machines/strix-halo-128-96-windows.json"
    expect 0 "" gemma-plan -m "$model" --json --tier "$machines/mali-g715-16-android.json"
    check "not x['heaps'][0]['reported']"
    expect 0 "" gemma-plan -m "$model" --tier "$machines/mali-g715-16-android.json"
    grep -q "no budget is told by the driver" out || fail "a hidden budget is not said to be one"
    expect 0 "" gemma-plan -m "$model" --device cpu --json --tier "$machines/rx580-8-linux.json"
    check "x['heaps'][0]['device'] == 'cpu' and x['heaps'][0]['budget'] + x['heaps'][0]['file'] < 7.7 * 2**30"
    check "x['heaps'][0]['budget'] > 7 * 2**30"
    expect 1 "nowhere.json: cannot be read" gemma-plan -m "$model" --tier nowhere.json
    sed 's/"discrete"/"indiscreet"/' "$machines/rx580-8-linux.json" > wrong.json
    expect 1 'wrong.json: "type" of device 0 cannot be "indiscreet"' gemma-plan -m "$model" --tier wrong.json
    sed 's/"range"/"rage"/' "$machines/rx580-8-linux.json" > wrong.json
    expect 1 'wrong.json: "limits" of device 0 has no "range"' gemma-plan -m "$model" --tier wrong.json
    sed 's/, \[2, "DVC"\]/, [3, "DVC"]/' "$machines/rx580-8-linux.json" > wrong.json
    expect 1 'type 3 is of heap 3, which is not there' gemma-plan -m "$model" --tier wrong.json
    head -c 300 "$machines/rx580-8-linux.json" > wrong.json
    expect 1 'wrong.json: line [0-9]* is not JSON' gemma-plan -m "$model" --tier wrong.json
fi

cat > lines << 'END'
{"text":"hello w\u00f6rld\n"}
{"text":""}
{"text":"  two  spaces, \u4e2d\u6587 \ud83d\ude00"}
END
"$bin/gemma-tokenize" -m "$model" < lines > out 2> err || fail "gemma-tokenize"
"$bin/gemma-tokenize" -m "$model" --decode < out > back 2> err || fail "gemma-tokenize --decode"
python3 - << 'END' || fail "text and ids are no round trip"
import json
lines = lambda name: [json.loads(line) for line in open(name, encoding='utf-8')]
assert lines('lines') == lines('back')
assert [list(x) for x in lines('out')] == [['ids']] * 3
END
echo '{"no":1}' > lines
"$bin/gemma-tokenize" -m "$model" < lines > out 2> err && fail "a line without text is taken"
grep -q '"text"' err || fail "no word of the missing text"

chat="gemma-chat -m $model --raw -p hello --n 12 --seed 3"
expect 0 "total" $chat
cp out first
[ -s first ] || fail "gemma-chat printed nothing"
expect 0 "tok/s" $chat
cmp -s out first || fail "the same seed gives another text"
expect 0 "" gemma-chat -m "$model" --raw -p hello --n 12 --seed 4
cmp -s out first && fail "another seed gives the same text"
echo hello | "$bin/gemma-chat" -m "$model" --raw -p - --n 3 > out 2> err || fail "gemma-chat -p -"

# The status file: whole whenever it is read, fresh while the program waits, and "ended" at the end.
expect 0 "" $chat --status status
cp status out
check "x['program'] == 'gemma-chat' and x['doing'] == 'ended' and x['position'] > 12 and x['ctx'] == 4096"
check "all(h['device'] and sum(h['classes'].values()) == h['planned'] for h in x['heaps'])"
check "all(0 < h['now']['used'] <= h['now']['budget'] <= h['now']['total'] for h in x['heaps'])"
check "x['speed']['tok_s'] > 0 and x['speed']['gb_s'] > 0 and x['speed']['measured_gb_s'] > 0 and x['events'] == []"
[ ! -e status.new ] || fail "status.new is left"
expect 1 "cannot write nowhere/status" $chat --status nowhere/status
expect 0 "" gemma-watch status --once
for word in "gemma-chat, process" "kv global" "tok/s" "CPU · RAM" "context .* of 4096"; do
    grep -q "$word" out || fail "gemma-watch does not show $word"
done
grep -q "$(printf '\033')" out && fail "escape codes without a terminal"
expect 0 "" gemma-watch --once
grep -q "^cpu .*" out || fail "gemma-watch shows no devices"
expect 1 "cannot read nowhere" gemma-watch nowhere --once
expect 1 "is no status file" gemma-watch "$model" --once
expect 2 "unexpected argument" gemma-watch status stray
expect 2 "--interval takes a number" gemma-watch status --interval 0
cat > status << 'END'
{"program": "p", "pid": 0, "time": 0, "doing": "answering", "model": "m", "ctx": 8, "speed": {}, "heaps": [{"device": "d",
"heap": 0, "name": "D · VRAM", "reported": true, "planned": 600, "classes": {"ffn": 400, "kv global": 200},
"now": {"total": 1000, "budget": 500, "used": 600}}], "events": [{"time": 0, "kind": "shrunk", "device": "d", "heap": 0,
"budget": 500, "planned": 600}]}
END
expect 0 "" gemma-watch status --once
grep -q "OVER BY 100 B" out || fail "a heap over its budget is not said to be"
grep -q "shrunk .*d heap 0: budget 500 B, we hold 600 B" out || fail "no event"
grep -q "\[F\{30\}G\{14\}#\{30\}\]" out || fail "another bar"
grep -q "written [0-9]* s ago" out || fail "an old file is not said to be old"
python3 - "$bin/gemma-watch" << 'END' || fail "the terminal is not given back as it was"
import os, pty, signal, sys
try:
    pid, fd = pty.fork()
except OSError as e:
    print('SKIPPED the bars in a terminal:', e)
    sys.exit(0)
if pid == 0: os.execv(sys.argv[1], [sys.argv[1], 'status', '--interval', '0.1'])
seen = b''
while seen.count(b'OVER BY') < 3: seen += os.read(fd, 4096)
os.kill(pid, signal.SIGINT)
try:
    while True:
        more = os.read(fd, 4096)
        if not more: break
        seen += more
except OSError:
    pass
assert os.waitpid(pid, 0)[1] == 0
begin, end = b'\033[?1049h\033[?25l\033[?7l', b'\033[?7h\033[?25h\033[?1049l'
assert seen.startswith(begin) and seen.endswith(end), seen
END

mkfifo said
"$bin/gemma-chat" -m "$model" --raw --n 3 --status status < said > out 2> err &
exec 3> said
python3 - << 'END' || fail "the status is not kept fresh while the program waits"
import json, time
seen = set()
for i in range(600):
    try:
        x = json.load(open('status'))
        if x['doing'] == 'waiting': seen.add(x['time'])
    except FileNotFoundError:
        pass
    if len(seen) == 3: break
    time.sleep(0.05)
assert len(seen) == 3, seen
END
echo hello >&3
exec 3>&-
wait $! || fail "gemma-chat --status"
cp status out
check "x['doing'] == 'ended' and x['position'] > 3"

# A conversation goes on from what was saved; without it, or with a damaged one, it is read again: the same answer.
talk="$bin/gemma-chat -m $here/data/nano/nano-gemma4-e2b.Q8_0.gguf --ctx 512 --n 12 --temp 0"
printf 'What is the capital of Norway?\n/save talk\n' | $talk > out 2> err || fail "/save"
[ "$(head -c 8 talk.session)" = GEMMASES ] || fail "/save wrote no session"
printf '/load talk\nAnd of France?\n' | $talk > again 2> err || fail "/load"
grep -q "load:" err && fail "what was saved is refused"
head -c 3000 talk.session > cut
for session in cut none; do
    rm -f talk.session
    [ $session = none ] || mv cut talk.session
    printf '/load talk\nAnd of France?\n' | $talk > out 2> err || fail "/load of $session"
    [ $session = none ] || grep -q "cut short: it ends at byte 3000" err || fail "a cut session is taken"
    cmp -s out again || fail "another answer without what was read"
done

# The prompt that is counted is all that was read, of the second answer only what is new.
printf 'Name a river.\nAnd a lake.\n' | $talk --json > turns 2> err || fail "--json"
sed -n 1p turns > out
check "x['n_prompt'] > 12 and x['prompt_s'] > 0"
sed -n 2p turns > out
check "0 < x['n_prompt'] < 40 + x['n_gen']"

printf '\002\000\000\000\012\000\000\000\013\000\000\000' > ids
expect 0 "" gemma-eval -m "$model" --device reference --tokens ids --logits logits
[ "$(wc -c < logits)" = $((3 * 1024 * 4)) ] || fail "logits of three rows"
echo '{"ids":[2,10,11,12]}' > score
expect 0 "" gemma-eval -m "$model" --score score
check "len(x['argmax']) == 4 and len(x['logprob']) == 3 and max(x['logprob']) < 0"
echo '{"text":"hello"}' > prompts
expect 0 "" gemma-eval -m "$model" --prompts prompts --greedy 5
check "len(x['gen']) == 5 and x['prompt_nll'] > 0 and len(x['logprob']) == 5"
echo "all as it should be"
