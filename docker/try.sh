#!/usr/bin/env bash
# Build the image and run the toy environment in it: its report must be there. ENGINE=podman takes another engine.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=${ENGINE:-docker}
image=${1:-nqcast:try}
volume=nqcast-try-$$
if ! command -v "$engine" >/dev/null; then
  echo "expected a container engine, found no $engine on the path: install it, or name one by ENGINE=…" >&2
  exit 2
fi
"$engine" build -f docker/Dockerfile ${TORCH_INDEX:+--build-arg TORCH_INDEX="$TORCH_INDEX"} -t "$image" .
"$engine" volume create "$volume" >/dev/null
trap '"$engine" volume rm "$volume" >/dev/null' EXIT
"$engine" run --rm -v "$volume":/data "$image" --env test
"$engine" run --rm -v "$volume":/data --entrypoint test "$image" -s /data/08_reporting/report.html
"$engine" run --rm --entrypoint id "$image" -un | grep -qx nqcast
echo "the image runs the toy environment as a user of its own, and its report is there"
