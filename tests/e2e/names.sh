#!/bin/sh
# names.sh BIN: -m ollama:… and -m hf:… against folders laid out as Ollama and the Hugging Face cache lay them out.
set -eu
bin=$1
here=$(cd "$(dirname "$0")/.." && pwd)
model=$here/data/tiny/tiny-gemma4-e2b.Q4_K_M.gguf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export LC_ALL=C HOME="$work/home [of] *me?"
unset OLLAMA_MODELS HF_HUB_CACHE HF_HOME XDG_CACHE_HOME
mkdir "$HOME"

# expect CODE WORDS NAME: gemma-plan's exit code, and words of stderr.
expect()
{
    got=0
    "$bin/gemma-plan" --no-probe -m "$3" > out 2> err < /dev/null || got=$?
    [ "$got" = "$1" ] && { [ -z "$2" ] || grep -qF -- "$2" err; } && return
    echo "-m $3: exit code $got for $1; wanted in stderr: $2"
    cat err
    exit 1
}
# lists LINE…: the lines of stderr behind the sentence, these and no others.
lists()
{
    printf '  %s\n' "$@" > wanted
    tail -n +2 err | cmp -s - wanted && return
    echo "listed, not $*:"
    cat err
    exit 1
}

expect 1 'none is in' ollama:gemma3
expect 1 'none is in' hf:org/name
expect 1 'cannot open' gemma3

# ---- Ollama ----

digest=$(printf '%064d' 7)
# ollama_model ROOT HOST/USER/NAME TAG [DIGEST]
ollama_model()
{
    mkdir -p "$1/manifests/$2" "$1/blobs"
    cat > "$1/manifests/$2/$3" << END
{"schemaVersion":2,"config":{"mediaType":"application/vnd.docker.container.image.v1+json","digest":"sha256:ff"},
"layers":[{"mediaType":"application/vnd.ollama.image.license","digest":"sha256:$(printf '%064d' 1)"},
{"mediaType":"application/vnd.ollama.image.model","digest":"${4-sha256:$digest}","size":1}]}
END
}
root="$HOME/.ollama/models"
ollama_model "$root" registry.ollama.ai/library/gemma3 latest
ollama_model "$root" registry.ollama.ai/library/gemma3 4b
ollama_model "$root" registry.ollama.ai/someone/mine latest
ollama_model "$root" hf.co/org/name-GGUF Q4_K_M
ollama_model "$root" localhost:5000/team/tuned v1
cp "$model" "$root/blobs/sha256-$digest"
for name in gemma3 gemma3:latest gemma3:4b GEMMA3:4B someone/mine hf.co/org/name-GGUF:Q4_K_M localhost:5000/team/tuned:v1
do
    expect 0 "" ollama:$name
done
for name in gemma3:27b gemma4 gemma 3 mine ../library/gemma3 localhost:5000/team/tuned hf.co/org/name-GGUF '*' ''; do
    expect 1 'Ollama has no model' "ollama:$name"
done
lists ollama:hf.co/org/name-GGUF:Q4_K_M ollama:localhost:5000/team/tuned:v1 ollama:gemma3:4b ollama:gemma3:latest \
    ollama:someone/mine:latest
expect 1 'Ollama has no model "gemma4:latest"; it has:' ollama:gemma4

export OLLAMA_MODELS="$work/elsewhere"
expect 1 "none is in $work/elsewhere" ollama:gemma3
ollama_model "$OLLAMA_MODELS" registry.ollama.ai/library/bare latest
expect 1 "bare:latest is not whole: there is no $OLLAMA_MODELS/blobs/sha256-$digest" ollama:bare
for bad in "sha256:../../../../etc/passwd" "sha256:" "$digest" "sha256:${digest}0" "sha256:$(printf '%063dg' 1)" ""; do
    ollama_model "$OLLAMA_MODELS" registry.ollama.ai/library/bad latest "$bad"
    expect 1 'no manifest of an Ollama model' ollama:bad
done
for bad in '' '{' '[]' '{"layers":3}' '{"layers":[3,{"mediaType":4},{"mediaType":"x","digest":"sha256:0"}]}'; do
    echo "$bad" > "$OLLAMA_MODELS/manifests/registry.ollama.ai/library/bad/latest"
    expect 1 'no manifest of an Ollama model' ollama:bad
done
i=0
while [ $i -lt 25 ]; do
    ollama_model "$OLLAMA_MODELS" registry.ollama.ai/library/many tag$i
    i=$((i + 1))
done
expect 1 'it has:' ollama:many
[ "$(wc -l < err)" = 22 ] && grep -q 'and 7 more' err || { echo "a long list is not cut"; cat err; exit 1; }

# ---- Hugging Face ----

# hub_file HUB REPO COMMIT FILE: a link to a blob, as the cache has it.
hub_file()
{
    mkdir -p "$(dirname "$1/models--$2/snapshots/$3/$4")" "$1/models--$2/blobs" "$1/models--$2/refs"
    [ -f "$1/models--$2/blobs/weights" ] || cp "$model" "$1/models--$2/blobs/weights"
    ln -s "$1/models--$2/blobs/weights" "$1/models--$2/snapshots/$3/$4"
}
# chosen NAME FILE: it opens, and only once FILE is a broken GGUF does it not.
chosen()
{
    expect 0 "" "$1"
    mv "$2" kept
    echo "no GGUF at all" > "$2"
    expect 1 "$(basename "$2")" "$1"
    mv kept "$2"
}
hub="$HOME/.cache/huggingface/hub"
hub_file "$hub" org--one-GGUF aaaa one-Q8_0.gguf
hub_file "$hub" org--one-GGUF aaaa mmproj-one-f16.gguf
echo '{}' > "$hub/models--org--one-GGUF/snapshots/aaaa/config.json"
for name in org/one-GGUF ORG/one-gguf org/one-GGUF: org/one-GGUF:Q8_0 org/one-GGUF:q8; do
    chosen hf:$name "$hub/models--org--one-GGUF/snapshots/aaaa/one-Q8_0.gguf"
done
for quant in IQ4_XS Q4_K_S Q4_K_M Q6_K; do hub_file "$hub" org--many aaaa many-$quant.gguf; done
many="$hub/models--org--many/snapshots"
chosen hf:org/many "$many/aaaa/many-Q4_K_M.gguf"
chosen hf:org/many:q4_k_s "$many/aaaa/many-Q4_K_S.gguf"
chosen hf:org/many:iq4 "$many/aaaa/many-IQ4_XS.gguf"
expect 1 'several files of org/many will do' hf:org/many:Q4_K
lists hf:org/many:many-Q4_K_M.gguf hf:org/many:many-Q4_K_S.gguf
expect 1 'no file of org/many has "Q9" in its name' hf:org/many:Q9
lists hf:org/many:many-IQ4_XS.gguf hf:org/many:many-Q4_K_M.gguf hf:org/many:many-Q4_K_S.gguf hf:org/many:many-Q6_K.gguf
chosen hf:org/many:many-Q6_K.gguf "$many/aaaa/many-Q6_K.gguf"
rm "$many/aaaa/many-Q4_K_M.gguf"
expect 1 'several files of org/many will do' hf:org/many

# The newest snapshot that has what is asked for.
hub_file "$hub" org--many bbbb many-Q6_K.gguf
hub_file "$hub" org--many 0000 many-Q6_K.gguf
touch -d '2024-01-01' "$many/aaaa"
touch -d '2025-01-01' "$many/bbbb"
touch -d '2023-01-01' "$many/0000"
chosen hf:org/many:Q6_K "$many/bbbb/many-Q6_K.gguf"
touch -d '2025-01-01' "$many/bbbb"
expect 0 "" hf:org/many
expect 0 "" hf:org/many:Q4_K_S

# A split file is its first part; the rest of it, and links to nothing, are not listed.
for part in 1 2 3; do hub_file "$hub" org--split aaaa BF16/split-BF16-0000$part-of-00003.gguf; done
ln -s ../../blobs/gone "$hub/models--org--split/snapshots/aaaa/split-Q8_0.gguf"
expect 1 'no file of org/split' hf:org/split:Q8_0
lists hf:org/split:BF16/split-BF16-00001-of-00003.gguf
expect 1 'BF16/split-BF16-00001-of-00003.gguf: the file says part' hf:org/split # the tiny model is not split

for name in org/none org one-GGUF org/one '../one-GGUF' '*/*' ''; do
    expect 1 "no GGUF file of \"$name\" is in the Hugging Face cache; there are:" "hf:$name"
done
grep -q '  hf:org/one-GGUF:one-Q8_0.gguf' err || { cat err; exit 1; }
hub_file "$work/hub" alone 1 alone.gguf
HF_HUB_CACHE=$work/hub expect 0 "" hf:alone
HF_HOME=$work expect 0 "" hf:alone
XDG_CACHE_HOME=$work expect 1 "none is in $work/huggingface/hub" hf:alone

for program in gemma-chat gemma-tokenize gemma-eval; do
    "$bin/$program" --help | grep -q 'hf:REPO\[:QUANT\]' || { echo "$program --help: no word of names"; exit 1; }
done
ln -s "$model" "$work/hf:a file"
expect 0 "" "./hf:a file"
echo "all as it should be"
