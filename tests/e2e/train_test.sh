#!/bin/bash
# `koinon train` and `koinon evaluate` as people use them: a small GPT on a small
# text, killed in its midst and taken up; a table; and what is refused.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=programs_lib.sh
source "$TEST_SRCDIR/koinon/tests/e2e/programs_lib.sh"

make_text() {
  local i
  for ((i = 0; i < 200; ++i)); do echo "all work and no play"; done
}

make_text >text.txt
cat >text.txtpb <<'END'
name: "text"
source {
  text { path: "text.txt" context: 16 stride: 5 sequences: true unit: CHARACTER }
}
held_out_fraction: 0.1
END
cat >gpt.txtpb <<'END'
dataset: "text"
model {
  input_shape: 16
  gpt { vocabulary: 12 layers: 1 heads: 2 width: 16 dropout: 0.1 }
}
training {
  steps: 300
  batch_size: 8
  optimizer { adamw { learning_rate: 0.01 } }
  schedule { warmup_steps: 10 cosine { steps: 290 } }
  clip_norm: 1
}
END
train=("$koinon" train gpt.txtpb --dataset @text.txtpb --threads 1)

# From the start to the end.
expect_exit 0 "train" "${train[@]}" -o whole.safetensors --curve curve.csv
expect_text "^[0-9]+ parameters, .* held out, float32, 1 threads, seed 1" "its first line"
expect_text "300/300" "its last report"
expect_text "wrote whole.safetensors" "its last line"
expect_text "^step,seconds,loss,held_out_loss,held_out_accuracy,tokens_per_second$" "the curve" curve.csv
[[ "$(wc -l <curve.csv)" == 101 ]] || fail "the curve has $(wc -l <curve.csv) lines, expected 101"

# The text repeats itself: a model that has learned it is sure of what follows.
expect_exit 0 "evaluate" "$koinon" evaluate whole.safetensors --job gpt.txtpb \
  --dataset @text.txtpb --held-out --min-accuracy 0.9
expect_text "accuracy 0.9|accuracy 1" "the held-out part"

# Killed at once after a checkpoint, and taken up.
"${train[@]}" --checkpoint-dir run --checkpoint-every 20 --curve killed.csv \
  -o killed.safetensors >killed.txt 2>&1 &
pid=$!
await_file run/checkpoint.safetensors "$pid" || fail "no checkpoint"
kill -9 "$pid" 2>/dev/null
wait "$pid" 2>/dev/null
[[ -e killed.safetensors ]] && echo "it was done before the kill" >&2
expect_exit 0 "taken up" "${train[@]}" --checkpoint-dir run --checkpoint-every 20 \
  --curve killed.csv -o killed.safetensors
expect_text "goes on after step [1-9]" "where it goes on"
cmp whole.safetensors killed.safetensors || fail "the model is another after the kill"
cut -d, -f1,4,5 curve.csv >expected.csv
cut -d, -f1,4,5 killed.csv | cmp - expected.csv || fail "the curve is another after the kill"

# Stopped by a signal: a checkpoint of the very step.
"${train[@]}" --steps 100000 --checkpoint-dir stopped >stopped.txt 2>&1 &
pid=$!
await_text "1000/100000" stopped.txt "$pid" || fail "no report"
expect_exit 1 "a second run in the folder" "${train[@]}" --steps 100000 --checkpoint-dir stopped
expect_text "^.*--checkpoint-dir stopped: another run keeps its checkpoints there; wait for its end" \
  "a second run in the folder"
code=0
end "$pid" INT || code=$?
[[ "$code" == 1 ]] || fail "stopped: exit code $code, expected 1"
expect_text "stopped after step [0-9]+ of 100000; the same command goes on from there" \
  "the stopped run's last word" stopped.txt
[[ -s stopped/checkpoint.safetensors ]] || fail "the stopped run left no checkpoint"

# No room for a checkpoint: the one before stays, and the message says where.
cp -r run full
code=0
(
  trap '' XFSZ
  ulimit -f 16
  "${train[@]}" --steps 400 --checkpoint-dir full --checkpoint-every 20
) >full.txt 2>&1 </dev/null || code=$?
[[ "$code" == 1 ]] || fail "no room: exit code $code, expected 1"
expect_text "full/checkpoint.safetensors.*File too large" "no room" full.txt
cmp run/checkpoint.safetensors full/checkpoint.safetensors ||
  fail "no room: the checkpoint before is another"
[[ "$(ls full)" == $'checkpoint.safetensors\nlock' ]] || fail "no room: $(ls full)"

# Each report as JSON.
expect_exit 0 "json" "${train[@]}" --steps 4 --report-every 2 --json
expect_text '^\{"step":2,"steps":4,.*"tokens_per_second":' "a report"
expect_text '^\{"step":4,.*"held_out_accuracy":' "the last report"

# A table, by epochs.
make_table >points.csv
cat >points.txtpb <<'END'
dataset: "points"
model { input_shape: 2 logistic_regression { classes: 3 } }
training { epochs: 40 optimizer { sgd { learning_rate: 0.5 } } }
END
points='name: "points" source { csv { path: "points.csv" label: "label" } }'
expect_exit 0 "train a table" "$koinon" train points.txtpb --dataset "$points" -o points.safetensors
expect_text "samples/s" "what is counted"
expect_exit 0 "evaluate a table" "$koinon" evaluate points.safetensors --job points.txtpb \
  --dataset "$points" --min-accuracy 0.95

# What makes no sense is refused before anything is done.
expect_exit 2 "another dataset" "$koinon" train gpt.txtpb --dataset "$points"
expect_text "expected the job's dataset, text, found points" "another dataset"
expect_exit 2 "no folder" "${train[@]}" -o nowhere/model.safetensors
expect_text "there is no folder nowhere" "no folder"
expect_exit 2 "both lengths" "${train[@]}" --steps 3 --epochs 1
expect_exit 1 "another training's checkpoint" "${train[@]}" --seed 5 --checkpoint-dir run
expect_text "is of another training" "another training's checkpoint"
sed 's/vocabulary: 12/vocabulary: 11/' gpt.txtpb >small.txtpb
expect_exit 2 "too small a vocabulary" "$koinon" train small.txtpb --dataset @text.txtpb
expect_text "vocabulary of at most 11 tokens, as the model has, found 12" "too small a vocabulary"

finish
