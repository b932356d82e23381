#!/usr/bin/env bash
# ./build.sh [plain|with-model] [options of docker build]
# plain: the model is uploaded beside the image (grand-challenge.org); with-model: it is inside.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
target="${1:-plain}"
docker build --platform linux/amd64 --target "$target" --tag @image@ "${@:2}" .
