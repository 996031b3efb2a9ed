#!/bin/sh
# Opens the comparison's page in a real browser, light and dark, wide and narrow: it must draw, complain of nothing on
# the console, ask the network for nothing, and follow the system's colour scheme.
# usage: report.sh PAGE.html   (exit code 77: no browser here, skipped)
set -eu

page=$(realpath "$1")
browser=
for name in chromium chromium-browser google-chrome chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        browser=$name
        break
    fi
done
if [ -z "$browser" ]; then
    echo "skipped: 4 checks need chromium, which is not installed"
    exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# open SCHEME WIDTH: screenshot, console and network logs of one visit
open_page() {
    dark=
    if [ "$1" = dark ]; then
        dark="--force-dark-mode --blink-settings=preferredColorScheme=0"
    fi
    # shellcheck disable=SC2086  # two words or none
    timeout 100 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
        --disable-background-networking --disable-component-update --disable-default-apps --disable-sync \
        --host-resolver-rules="MAP * ~NOTFOUND" --user-data-dir="$dir/profile-$1-$2" --window-size="$2,2400" $dark \
        --enable-logging=stderr --log-net-log="$dir/net-$1-$2.json" \
        --screenshot="$dir/$1-$2.png" "file://$page" >"$dir/out-$1-$2" 2>&1 ||
        fail "$1, $2 pixels: the browser ended with an error"
    if [ ! -s "$dir/$1-$2.png" ]; then
        fail "$1, $2 pixels: nothing was drawn"
    fi
    if grep -q 'CONSOLE' "$dir/out-$1-$2"; then
        grep 'CONSOLE' "$dir/out-$1-$2" | head -3
        fail "$1, $2 pixels: console messages"
    fi
    # The browser's own housekeeping goes to its maker; anything else was asked for by the page.
    if grep -o '"url":"https\{0,1\}://[^/"]*' "$dir/net-$1-$2.json" | grep -v '\.google\(apis\)\{0,1\}\.com$' |
        sort -u | head -3 | grep .; then
        fail "$1, $2 pixels: the page asked the network for something"
    fi
    echo "ok: $1, $2 pixels wide"
}

open_page light 1100
open_page dark 1100
open_page light 390
open_page dark 390

# The mean brightness of a screenshot, 0..255, by the standard library alone.
if command -v python3 >/dev/null 2>&1; then
    mean() {
        python3 - "$1" <<'PY'
import struct, sys, zlib
data = open(sys.argv[1], "rb").read()
at, body = 8, b""
while at < len(data):
    size, kind = struct.unpack(">I4s", data[at:at + 8])
    if kind == b"IHDR":
        width, height, depth, color = struct.unpack(">IIBB", data[at + 8:at + 18])
    elif kind == b"IDAT":
        body += data[at + 8:at + 8 + size]
    at += 12 + size
step = {2: 3, 6: 4}[color]
raw, total, count = zlib.decompress(body), 0, 0
line = bytearray(width * step)
for y in range(height):
    kind = raw[y * (width * step + 1)]
    new = bytearray(raw[y * (width * step + 1) + 1:(y + 1) * (width * step + 1)])
    for i in range(len(new)):
        a = new[i - step] if i >= step else 0
        b, c = line[i], line[i - step] if i >= step else 0
        if kind == 1:
            new[i] = (new[i] + a) & 255
        elif kind == 2:
            new[i] = (new[i] + b) & 255
        elif kind == 3:
            new[i] = (new[i] + (a + b) // 2) & 255
        elif kind == 4:
            p = a + b - c
            pa, pb, pc = abs(p - a), abs(p - b), abs(p - c)
            new[i] = (new[i] + (a if pa <= pb and pa <= pc else b if pb <= pc else c)) & 255
    line = new
    total += sum(line[1::step])
    count += width
    if y > 500:
        break
print(total // count)
PY
    }
    light=$(mean "$dir/light-390.png")
    dark=$(mean "$dir/dark-390.png")
    if [ "$light" -lt 200 ] || [ "$dark" -gt 70 ]; then
        fail "brightness $light in light and $dark in dark: expected at least 200, at most 70"
    else
        echo "ok: brightness $light in light, $dark in dark"
    fi
else
    echo "skipped: 1 check (brightness) needs python3"
fi
exit $failed
