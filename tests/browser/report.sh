#!/bin/sh
# Opens the comparison's page in a real browser, light and dark, wide and narrow: it must draw, complain of nothing on
# the console, ask the network for nothing, and follow the system's colour scheme; nothing may stick out of the page at
# 1280 and 400 pixels (tables scroll by themselves where they must, at 1280 none has to) or in print, which takes at
# most six pages of A4.
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
    echo "skipped: 8 checks need chromium, which is not installed"
    exit 77
fi

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
failed=0

fail() {
    echo "FAILED: $*"
    failed=1
}

# browse NAME ARGUMENT...: one visit, with a profile of its own; what the browser says is in out-NAME
browse() {
    visit=$1
    shift
    timeout 100 "$browser" --headless=new --no-sandbox --disable-gpu --hide-scrollbars --no-first-run \
        --disable-background-networking --disable-component-update --disable-default-apps --disable-sync \
        --host-resolver-rules="MAP * ~NOTFOUND" --user-data-dir="$dir/profile-$visit" "$@" \
        >"$dir/out-$visit" 2>"$dir/err-$visit" || fail "$visit: the browser ended with an error"
}

# open SCHEME WIDTH: screenshot, console and network logs of one visit
open_page() {
    dark=
    if [ "$1" = dark ]; then
        dark="--force-dark-mode --blink-settings=preferredColorScheme=0"
    fi
    # shellcheck disable=SC2086  # two words or none
    browse "$1-$2" --window-size="$2,2400" $dark --enable-logging=stderr --log-net-log="$dir/net-$1-$2.json" \
        --screenshot="$dir/$1-$2.png" "file://$page"
    if [ ! -s "$dir/$1-$2.png" ]; then
        fail "$1, $2 pixels: nothing was drawn"
    fi
    if grep -q 'CONSOLE' "$dir/err-$1-$2"; then
        grep 'CONSOLE' "$dir/err-$1-$2" | head -3
        fail "$1, $2 pixels: console messages"
    fi
    # The browser's own housekeeping goes to its maker; anything else was asked for by the page.
    if grep -o '"url":"https\{0,1\}://[^/"]*' "$dir/net-$1-$2.json" | grep -v '\.google\(apis\)\{0,1\}\.com$' |
        sort -u | head -3 | grep .; then
        fail "$1, $2 pixels: the page asked the network for something"
    fi
    echo "ok: $1, $2 pixels wide"
}

open_page light 1280
open_page dark 1280
open_page light 500
open_page dark 500

# What the page's boxes are, told by a script that a copy of the page is given: the window has a least width, so that
# the copy stands in a frame of the wanted one.  A chart is measured in pixels a unit of its own.
cat >"$dir/measure.js" <<'JS'
addEventListener("load", function () {
    var page = document.documentElement, found = [], width = page.clientWidth
    if (page.scrollWidth > width) found.push("page " + page.scrollWidth + " wide")
    document.querySelectorAll(".wide").forEach(function (e) {
        if (e.scrollWidth > e.clientWidth && ALL_FIT) found.push("table in " + e.closest("section").id + " cut")
    })
    document.querySelectorAll("body *").forEach(function (e) {
        if (e.closest(".wide") && !ALL_FIT || e.closest("pre")) return
        var box = e.getBoundingClientRect()
        if (box.width == 0 || e.closest(".skip")) return
        if (box.right > width + 1 || box.left < -1) found.push(e.tagName + " sticks out")
    })
    document.querySelectorAll("svg.chart").forEach(function (e) {
        var box = e.getBoundingClientRect()
        if (box.width == 0) return
        if (box.width / e.viewBox.baseVal.width < 0.72) found.push("chart too small to read")
        e.querySelectorAll("text").forEach(function (x) {
            var r = x.getBoundingClientRect()
            if (r.left < box.left - 2 || r.right > box.right + 2) found.push("text cut: " + x.textContent)
        })
    })
    parent.postMessage("measured " + width + ": " + (found.length ? found.slice(0, 5).join(", ") : "fits"), "*")
})
JS

# fits NAME WIDTH ALL_FIT MEDIA: everything is within the page, and (ALL_FIT true) no table has to scroll
fits() {
    sed -e 's#<meta http-equiv="Content-Security-Policy"[^>]*>##' -e "s#@media print#@media $4#" \
        -e "s#</body>#<script>var ALL_FIT = $3</script><script src=\"measure.js\"></script></body>#" \
        "$page" >"$dir/copy-$1.html"
    cat >"$dir/frame-$1.html" <<HTML
<body style="margin:0"><script>addEventListener("message", function (e) { document.title = e.data })</script>
<iframe src="copy-$1.html" style="border:0;width:$2px;height:3000px"></iframe>
HTML
    browse "$1" --window-size=1400,2000 --virtual-time-budget=10000 --dump-dom "file://$dir/frame-$1.html"
    found=$(sed -n 's#.*<title>measured \([^<]*\)</title>.*#\1#p' "$dir/out-$1")
    if [ "$found" = "$2: fits" ]; then
        echo "ok: $1, everything fits $2 pixels"
    else
        fail "$1, $2 pixels: ${found:-nothing was measured}"
    fi
}

fits screen 1280 true print
fits telephone 400 false print
fits paper 710 true all # A4 less its margins, at 96 dots an inch

browse pdf --no-pdf-header-footer --print-to-pdf="$dir/page.pdf" "file://$page"
pages=$(grep -ao '/Count [0-9]*' "$dir/page.pdf" | head -1 | cut -d' ' -f2)
if [ "${pages:-0}" -ge 1 ] && [ "$pages" -le 6 ]; then
    echo "ok: $pages pages of A4"
else
    fail "${pages:-no} pages of A4, expected 1 to 6"
fi

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
    light=$(mean "$dir/light-500.png")
    dark=$(mean "$dir/dark-500.png")
    if [ "$light" -lt 200 ] || [ "$dark" -gt 70 ]; then
        fail "brightness $light in light and $dark in dark: expected at least 200, at most 70"
    else
        echo "ok: brightness $light in light, $dark in dark"
    fi
else
    echo "skipped: 1 check (brightness) needs python3"
fi
exit $failed
