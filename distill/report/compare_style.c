/* Head, style sheet and end of a page.  Colours keep a contrast of at least 4.5 : 1 for text on both grounds. */
#include "distill/report/compare_style.h"

/* clang-format off */
/* Several strings, as C promises room for 4095 characters in one. */
static const char *const STYLE[] = {
    ":root{color-scheme:light dark;--bg:#fff;--panel:#f5f6f8;--ink:#15181c;--muted:#57606b;--line:#d9dee4;"
    "--grid:#e7eaee;"
    "--c0:#47515d;--c1:#1f5fc4;--c2:#b8430b;--c3:#0b716a;--c4:#6d34d1;--c5:#94570a;--c6:#a8286b;"
    "--bad:#b3261e;--warn:#fff6e3;--warnline:#d99a1f;--onc:#fff}"
    "@media screen and (prefers-color-scheme:dark){:root{--bg:#13161a;--panel:#1b1f25;--ink:#e8ebee;--muted:#a3adb8;"
    "--line:#333b45;"
    "--grid:#272d35;--c0:#b4bdc8;--c1:#74abff;--c2:#ff9d63;--c3:#52d0c2;--c4:#bda2ff;--c5:#f0b950;--c6:#ff8fc4;"
    "--bad:#ff8f86;--warn:#2a2314;--warnline:#9a7a2c;--onc:#13161a}}",
    "*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}"
    "body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,"
    "'Helvetica Neue',Arial,sans-serif}"
    "main,header,footer{max-width:1120px;margin:0 auto;padding:0 20px}"
    "header{padding-top:36px}h1{font-size:1.9rem;line-height:1.2;margin:0 0 4px;letter-spacing:-.01em}"
    "h2{font-size:1.25rem;margin:44px 0 6px;padding-top:14px;border-top:1px solid var(--line)}"
    "h3{font-size:1rem;margin:22px 0 6px}p{margin:6px 0 12px;max-width:72ch}"
    ".sub{color:var(--muted);overflow-wrap:anywhere}"
    ".lead{font-size:1.12rem;line-height:1.5;margin:18px 0}"
    "nav{margin:16px 0 0}nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:4px 18px;margin:0;padding:0}"
    "a{color:var(--c1)}a:focus-visible,summary:focus-visible,.wide:focus-visible{outline:3px solid var(--c1);"
    "outline-offset:2px}"
    ".skip{position:absolute;left:-9999px}.skip:focus{left:8px;top:8px;background:var(--bg);padding:8px}",
    ".cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:18px 0}"
    ".card{background:var(--panel);border:1px solid var(--line);border-radius:10px;padding:14px 16px}"
    ".card b{display:block;font-size:1.5rem;line-height:1.15;font-variant-numeric:tabular-nums;letter-spacing:-.02em}"
    ".card>span{display:block;color:var(--muted);font-size:.87rem}"
    ".card i{display:block;width:28px;height:4px;border-radius:2px;margin:0 0 10px;background:currentColor}"
    ".warn{background:var(--warn);border-left:4px solid var(--warnline);border-radius:6px;padding:12px 18px;"
    "margin:20px 0}"
    ".warn h2{border:0;margin:0;padding:0;font-size:1rem}.warn ul{margin:6px 0 0;padding-left:20px}"
    ".wide{overflow-x:auto;margin:10px 0 18px}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.93rem;min-width:100%}"
    "caption{text-align:left;color:var(--muted);font-size:.87rem;padding:0 0 6px}"
    "th,td{padding:6px 12px 6px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap;"
    "vertical-align:top}"
    "th{font-weight:600;white-space:normal}tbody th{min-width:8.5rem}thead th{color:var(--muted);font-weight:500;"
    "vertical-align:bottom}"
    "th:first-child,td:first-child,.left{text-align:left}small{color:var(--muted);"
    "font-weight:400}"
    ".wrap{white-space:normal;word-break:break-word}"
    "code,.mono{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}"
    "pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px 14px;overflow-x:auto}"
    "details{margin:8px 0}summary{cursor:pointer;color:var(--c1);padding:4px 0}"
    ".ids{columns:13rem;font-size:12.5px;color:var(--muted);margin:8px 0}.ids div{break-inside:avoid}"
    ".key{font-weight:700;margin-right:.35em;white-space:nowrap}.key svg{display:inline-block;width:.95em;height:.95em;"
    "vertical-align:-.1em;margin-right:.1em}.legend{list-style:none;display:flex;flex-wrap:wrap;gap:2px 20px;"
    "margin:14px 0 0;"
    "padding:0}",
    "svg{display:block;font:13px system-ui,-apple-system,'Segoe UI',Roboto,Arial,sans-serif}"
    "svg.chart{width:100%;max-width:470px}svg.matrix{width:100%;max-width:560px}"
    "svg.square{width:100%;max-width:300px}text{fill:var(--ink)}"
    ".tick{fill:var(--muted);font-size:11.5px;text-anchor:middle}.side{fill:var(--muted);font-size:11.5px;"
    "text-anchor:end}"
    ".slant{fill:var(--muted);font-size:11.5px;text-anchor:end}.name{font-size:12.5px;white-space:pre}"
    ".value{font-size:12.5px;"
    "font-weight:650;font-variant-numeric:tabular-nums;text-anchor:end}"
    ".range{fill:var(--muted);font-size:12px;font-variant-numeric:tabular-nums;text-anchor:end}"
    ".grid{stroke:var(--grid)}.zero{stroke:var(--muted);stroke-width:1.5}.ideal{stroke:var(--muted);"
    "stroke-dasharray:4 4}"
    ".c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}"
    ".c5{color:var(--c5)}"
    ".c6{color:var(--c6)}.band{stroke:currentColor;stroke-width:13;opacity:.26}"
    ".whisker{stroke:currentColor;stroke-width:1.5}.mark{fill:currentColor;stroke:var(--bg);stroke-width:.2}"
    ".curve{fill:none;stroke:currentColor;stroke-width:2}.spread{fill:currentColor;opacity:.16}"
    ".run{fill:currentColor;opacity:.75;"
    "stroke:var(--bg);"
    "stroke-width:1}.bar{fill:currentColor}.bar.down{fill-opacity:.55;stroke:currentColor}"
    ".before,.after{fill:none;stroke:currentColor}.before{opacity:.5;stroke-dasharray:3 3}.after{stroke-width:2}"
    "circle.after{fill:currentColor;stroke:none}circle.before{fill:var(--bg);stroke-dasharray:none}"
    ".field{fill:var(--panel)}.hit{fill:currentColor}.miss{fill:var(--bad)}.cell{font-size:11px;text-anchor:middle}"
    ".strong{fill:var(--onc)}",
    ".grid3{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(230px,100%),1fr));gap:8px 24px}"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:8px 36px;"
    "align-items:start}.grid3>*,.charts>*{min-width:0}.charts h3{margin-top:8px}"
    "figure{margin:0 0 8px}figcaption{font-size:.9rem;font-weight:600;margin:4px 0}"
    "figcaption small{font-weight:400;display:block}"
    ".quad{border-collapse:separate;border-spacing:6px;min-width:0;width:100%;max-width:640px;"
    "table-layout:fixed}.quad thead td,.quad thead th,.quad tbody th{width:auto;min-width:0}"
    ".quad thead td{width:6.5rem;"
    "background:none;border:0;padding:0}.quad th,.quad td{border:0}"
    ".quad td{border-radius:8px;background:var(--panel);border:1px solid var(--line);padding:12px 16px;"
    "text-align:left;"
    "white-space:normal}.quad td b{font-size:1.35rem;display:block}.quad th{color:var(--muted);font-weight:500;"
    "white-space:normal;text-align:left}.quad td.focus{border:2px solid var(--c2)}"
    "dl{display:grid;grid-template-columns:minmax(9rem,max-content) 1fr;gap:4px 20px;margin:8px 0}"
    "dt{color:var(--muted)}"
    "dd{margin:0;word-break:break-word}footer{color:var(--muted);font-size:.87rem;padding-top:28px;"
    "padding-bottom:48px}"
    "@media(max-width:560px){main,header,footer{padding:0 14px}h1{font-size:1.5rem}.lead{font-size:1.03rem}"
    "dl{grid-template-columns:1fr}dt{margin-top:8px}.quad{border-spacing:3px}.quad td{padding:8px 8px}"
    ".quad thead td{width:4.2rem}}",
    "@page{size:A4;margin:11mm}"
    "@media print{:root{color-scheme:light}nav,.skip,details:not([open]){display:none}"
    "html{font-size:9.8px}body{font-size:1rem;line-height:1.3}main,header,footer{max-width:none;padding:0}"
    "header{padding-top:0}"
    "h1{font-size:18px}h2{font-size:13px;margin:8px 0 1px;padding-top:4px;break-after:avoid}"
    "h3{font-size:11px;margin:6px 0 2px;break-after:avoid}p{margin:2px 0 4px;max-width:none}.lead{font-size:11px;"
    "margin:6px 0}"
    ".cards{grid-template-columns:repeat(4,1fr);gap:6px;margin:6px 0}.card{padding:6px 9px}.card b{font-size:15px}"
    ".warn{margin:8px 0;padding:6px 12px}"
    ".wide{overflow:visible;margin:3px 0 6px}th,td{padding:1.5px 8px 1.5px 0;white-space:normal}table{font-size:8.8px}"
    ".quad small,.pairs tbody tr:nth-child(n+4){display:none}.charts,.grid3{display:block;column-gap:24px}"
    ".charts{columns:2}"
    ".charts.quads,.grid3{columns:3}.charts>*,.grid3>*{padding-bottom:4px}"
    "details{margin:2px 0}summary{list-style:none;padding:1px 0;color:inherit}svg.square{max-width:140px}"
    "svg.chart,svg.matrix{max-width:292px}.quad td{padding:2px 8px}.quad td b{font-size:12px;display:inline;"
    "margin-right:6px}.quad br{display:none}.quad{border-spacing:3px}"
    "svg,figure,.quad,.card,tr{break-inside:avoid}dl{gap:1px 14px;margin:3px 0}code,.mono{font-size:9px}"
    "pre{padding:4px 8px;white-space:pre-wrap;word-break:break-all}footer{padding:6px 0 0}}",
};
/* clang-format on */

void kd_page_begin(kd_text *t, const char *title, const char *subject, const char *figures)
{
    kd_text_f(t,
              "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
              "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
              "'unsafe-inline'; img-src data:\">\n"
              "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
              "<meta name=\"color-scheme\" content=\"light dark\">\n"
              "<link rel=\"icon\" href=\"data:,\">\n<title>%s: ",
              title);
    kd_text_html(t, subject);
    kd_text_add(t, "</title>\n<style>\n");
    for (size_t i = 0; i < KD_COUNTOF(STYLE); i++) {
        kd_text_add(t, STYLE[i]);
        kd_text_add(t, "\n");
    }
    kd_text_f(t, "</style>\n</head>\n<body>\n<a class=\"skip\" href=\"#%s\">Skip to the figures</a>\n", figures);
}

void kd_page_end(kd_text *t)
{
    kd_text_f(t,
              "</main>\n<footer>Made by lastkd %s; one file, no network, no "
              "scripts.</footer>\n</body>\n</html>\n",
              kd_version());
}
