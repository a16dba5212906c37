#!/usr/bin/env bash
# Tables 3 to 6 from a finished recipe: evaluate.sh OUT, where OUT is its folder (./olmo2-7b).
set -euo pipefail
out=${1:?the folder that ftt-hub recycle wrote}
model=allenai/OLMo-2-1124-7B
revisions=(
  stage1-step300000-tokens1259B
  stage1-step600000-tokens2517B
  stage1-step928646-tokens3896B
  stage2-ingredient1-step6000-tokens26B
  stage2-ingredient1-step11931-tokens50B
)
for i in 1 2 3 4 5; do
  # Δ_1 … Δ_5 on M_i (M_i's own is fine-tuning), then what was recycled before it was fine-tuned.
  steps=(1 2 3 4 5)
  [ "$i" -lt 2 ] || steps+=("$((i - 1))-$i")
  [ "$i" -lt 3 ] || steps+=("$(seq -s- 1 "$i")")
  adapters=()
  for step in "${steps[@]}"; do
    adapters+=(--adapter "$out/adapters/$step")
  done
  ftt-hub evaluate --target "$model@${revisions[i - 1]}" "${adapters[@]}" \
    --setting gsm8k,math500,gpqa_diamond --batch-size auto --plot "$out/M$i.png"
done
