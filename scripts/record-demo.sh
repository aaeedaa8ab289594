#!/usr/bin/env bash
# Runs "make demo" in a terminal (tmux) and draws what it shows, as docs/images/demo.svg.
#
#   scripts/record-demo.sh [FILE]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly file=${1:-docs/images/demo.svg}
readonly columns=96 rows=48 seconds=30
readonly last='Ctrl-C ends it.' # what demo says last

command -v tmux >/dev/null || { echo 'record-demo: tmux is missing' >&2; exit 1; }
make -s build

# A server of its own, that nobody's settings reach and that is gone with this script.
work=$(mktemp -d)
terminal() { tmux -S "$work/tmux" -f /dev/null "$@"; }
clean_up() {
  terminal kill-server 2>/dev/null || true
  rm -rf -- "$work"
}
trap clean_up EXIT

# -s: what make would print of the build has paths of this machine in it.
terminal new-session -d -x "$columns" -y "$rows" "env MAKEFLAGS=-s PS1='\$ ' bash --norc --noprofile"
deadline=$((SECONDS + seconds))
until terminal capture-pane -p | grep -q '^\$'; do
  ((SECONDS < deadline)) || { echo 'record-demo: no prompt' >&2; exit 1; }
  sleep 0.1
done
terminal send-keys 'make demo' Enter
until terminal capture-pane -p | grep -qF "$last"; do
  ((SECONDS < deadline)) || { echo "record-demo: the demo did not come to its end:" >&2; terminal capture-pane -p >&2; exit 1; }
  sleep 0.2
done
terminal capture-pane -p >"$work/screen"
terminal send-keys C-c
# It stops its servers before the prompt is back.
until terminal capture-pane -p | tail -n +2 | grep -qx '\$ *'; do
  ((SECONDS < deadline)) || break
  sleep 0.2
done

# Trailing blank lines are no part of the picture. Colours are the drawing's own: demo has none.
sed -e :a -e '/^[[:space:]]*$/{$d;N;ba' -e '}' "$work/screen" | awk -v columns="$columns" '
  { gsub(/&/, "\\&amp;"); gsub(/</, "\\&lt;"); gsub(/>/, "\\&gt;"); line[NR] = $0 }
  END {
    width = columns * 7.9 + 32; height = NR * 18 + 56
    printf "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"A terminal: make demo and what it prints\">\n", width, height
    print "<style>text { font: 13px ui-monospace, \"DejaVu Sans Mono\", Menlo, monospace; white-space: pre; fill: #d1d7e0 } .say { fill: #79b8ff } .type { fill: #8b949e } .shell { fill: #7ee787 }</style>"
    printf "<rect width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#0d1117\"/>\n", width, height
    print "<circle cx=\"20\" cy=\"18\" r=\"5\" fill=\"#6e7681\"/><circle cx=\"38\" cy=\"18\" r=\"5\" fill=\"#6e7681\"/><circle cx=\"56\" cy=\"18\" r=\"5\" fill=\"#6e7681\"/>"
    for (i = 1; i <= NR; i++) {
      if (line[i] ~ /^ *$/) continue
      class = line[i] ~ /^demo:/ ? "say" : line[i] ~ /^ *# / ? "type" : line[i] ~ /^\$ / ? "shell" : "text"
      printf "<text class=\"%s\" x=\"16\" y=\"%d\" xml:space=\"preserve\">%s</text>\n", class, i * 18 + 34, line[i]
    }
    print "</svg>"
  }' >"$work/svg"
mkdir -p "$(dirname "$file")"
mv "$work/svg" "$file"
echo "record-demo: $file"
