#!/usr/bin/env bash
# ./save.sh: writes the files to upload. An image that was built with-model needs only the first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
docker save @image@ | gzip -c >@image@.tar.gz
tar -C model -czf model.tar.gz .
ls -l @image@.tar.gz model.tar.gz
