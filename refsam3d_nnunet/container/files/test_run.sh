#!/usr/bin/env bash
# ./test_run.sh INPUT OUTPUT [with-model]: runs the image as a platform does.
# INPUT: a folder with images/SOCKET/NAME.mha below it (grand-challenge.org), or one of images.
# with-model: as it was built; otherwise the model's folder is mounted.
set -euo pipefail
if [ $# -lt 2 ]; then
    sed -n '2,4s/^# //p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
mkdir -p "$2"
chmod a+rwx "$2"
input="$(cd "$1" && pwd)"
output="$(cd "$2" && pwd)"
if [ -d "$input/images" ]; then
    inside=(/input /output)
else
    inside=(/workspace/inputs /workspace/outputs)
fi
options=()
if [ "${3:-}" != with-model ]; then
    options+=(--volume "$here/model:/opt/ml/model:ro")
fi
if command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; then
    options+=(--gpus all)
fi
docker run --rm --platform linux/amd64 --network none --cap-drop ALL \
    --security-opt no-new-privileges --user 4242:4242 --read-only --tmpfs /tmp \
    --volume "$input:${inside[0]}:ro" --volume "$output:${inside[1]}" \
    ${options[@]+"${options[@]}"} @image@
