#!/bin/sh
# Rules of the repository that no compiler checks: which way imports point, and what must not be committed.
set -eu
cd "$(dirname "$0")/.."
status=0
complain() { echo "check: $1" >&2; status=1; }

# Only the composition root names an adapter.
for adapter in SQLiteAdapter FileSystemAdapter LMDBAdapter DuckDBAdapter ProcessAdapter RemoteModelAdapter TreeModelAdapter; do
    found=$(grep -rlE "^(public |internal |private |package )?import $adapter" Sources --include='*.swift' |
        grep -v -e '^Sources/Apps/' -e '^Sources/TestSupport/' -e "^Sources/Adapters/$adapter/" || true)
    [ -z "$found" ] || complain "only Sources/Apps may import $adapter: $found"
done
# A layer imports only from its own and smaller numbers; layers do not know control or edge.
layer=1
for folder in 1-Data 2-Features 3-Training 4-Registry 5-Serving 6-Monitoring; do
    for higher in 1-Data 2-Features 3-Training 4-Registry 5-Serving 6-Monitoring; do
        [ "${higher%%-*}" -gt "$layer" ] || continue
        for target in $(ls "Sources/Layers/$higher"); do
            found=$(grep -rlE "import $target\$" "Sources/Layers/$folder" --include='*.swift' || true)
            [ -z "$found" ] || complain "$folder may not import $target: $found"
        done
    done
    found=$(grep -rlE "import (Workflows|Governance|Gateway|APIContract|CommandLine|Dashboard|MLflowAPI)\$" "Sources/Layers/$folder" --include='*.swift' || true)
    [ -z "$found" ] || complain "a layer may not import control or edge: $found"
    layer=$((layer + 1))
done
tracked=$(git ls-files Package.resolved '.build*' '.venv' 'demo-output' | head -3)
[ -z "$tracked" ] || complain "not to be committed: $tracked"
exit $status
