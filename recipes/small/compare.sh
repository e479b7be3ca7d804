#!/usr/bin/env bash
# From nothing to the table: the corpus, every arm with every seed, results.json, RESULTS.md. See --help.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec ccc-w2v small "$@"
