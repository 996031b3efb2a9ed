/* Progress on terminals, in logs and for machines: see progress.h. */
#include "tools/progress.h"

#include "tools/process/process.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- text ------------------------------------------------------------------------------------ */

static void duration_text(char *out, size_t size, double seconds)
{
    if (!(seconds >= 0.0) || seconds > 99.0 * 86400.0) {
        (void)snprintf(out, size, "--:--");
        return;
    }
    const long s = (long)(seconds + 0.5);
    if (s >= 3600) {
        (void)snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    } else {
        (void)snprintf(out, size, "%02ld:%02ld", s / 60, s % 60);
    }
}

static double rate_of(const kd_ticker *t, double now)
{
    const double elapsed = now - t->started;
    return elapsed > 1e-3 ? (double)(t->done - t->first) / elapsed : 0.0;
}

/* Seconds until this phase is done; negative: unknown. */
static double phase_left(const kd_ticker *t, double now)
{
    const double rate = rate_of(t, now);
    return rate > 0.0 && t->total > 0 ? (double)(t->total - KD_MIN(t->done, t->total)) / rate : -1.0;
}

/* Seconds until all phases are done: the rest of this one at its own rate, the others at that of the whole, in which
 * the time between phases counts; negative where nothing is known of them. */
static double whole_left(const kd_ticker *t, double now)
{
    const uint64_t done = t->whole_before + t->done, ends = t->whole_before + t->total;
    const uint64_t since = done - KD_MIN(done, t->whole_first);
    const double phase = phase_left(t, now);
    if (t->whole_total <= t->total || since == 0 || phase < 0.0) {
        return -1.0;
    }
    return phase + (double)(t->whole_total - KD_MIN(ends, t->whole_total)) * (now - t->whole_started) / (double)since;
}

/* ", run 2:03:10", or nothing. */
static void whole_text(const kd_ticker *t, char *out, size_t size, double now)
{
    char left[32];
    const double seconds = whole_left(t, now);
    duration_text(left, sizeof left, seconds);
    (void)snprintf(out, size, "%s%s", seconds >= 0.0 ? ", run " : "", seconds >= 0.0 ? left : "");
}

static void line_text(const kd_ticker *t, char *out, size_t size, double now)
{
    const double rate = rate_of(t, now);
    char eta[32];
    char loss[32] = "";
    char total[32] = "";
    char run[48];
    whole_text(t, run, sizeof run, now);
    duration_text(eta, sizeof eta, phase_left(t, now));
    if (isfinite(t->loss)) {
        (void)snprintf(loss, sizeof loss, "  loss %.4f", t->loss);
    }
    if (t->total > 0) {
        (void)snprintf(total, sizeof total, "/%" PRIu64, t->total);
    }
    (void)snprintf(out, size, "%" PRIu64 "%s %s  %.*f/s%s  ETA %s%s", t->done, total, t->unit, rate < 10.0 ? 2 : 0,
                   rate, loss, eta, run);
}

static unsigned terminal_columns(void)
{
    struct winsize w;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 0) {
        return w.ws_col;
    }
    return 80;
}

/* ---- drawing --------------------------------------------------------------------------------- */

static void draw_bar(kd_ticker *t, double now)
{
    enum { CELLS = 24 };
    char text[160];
    char bar[CELLS * 3 + 1];
    char line[512];
    line_text(t, text, sizeof text, now);
    const double part = t->total > 0 ? KD_MIN(1.0, (double)t->done / (double)t->total) : 0.0;
    const int full = (int)(part * CELLS);
    size_t at = 0;
    for (int i = 0; i < CELLS; i++) {
        memcpy(bar + at, i < full ? "\xe2\x94\x81" : "\xe2\x94\x80", 3); /* heavy and light line */
        at += 3;
    }
    bar[at] = '\0';
    const unsigned columns = terminal_columns();
    const bool wide = columns >= 100 && t->total > 0;
    const char *on = t->color ? "\033[36m" : "";
    const char *off = t->color ? "\033[0m" : "";
    (void)snprintf(line, sizeof line, "%s%s%s%s%s", wide ? on : "", wide ? bar : "", wide ? off : "", wide ? " " : "",
                   text);
    const size_t used = strlen(t->phase) + 2 + strlen(text) + (wide ? CELLS + 1 : 0);
    if (used + 1 > columns) {
        (void)fprintf(stderr, "\r\033[K%.*s", (int)columns - 1, text);
    } else {
        (void)fprintf(stderr, "\r\033[K%s  %s", t->phase, line);
    }
    (void)fflush(stderr);
    t->drawn = 1;
}

static void json_line(const kd_ticker *t, double now, const char *type)
{
    (void)printf("{\"type\": \"%s\", \"phase\": \"", type);
    for (const char *c = t->phase; *c != '\0'; c++) { /* our own words: quotes are all there can be */
        if (*c == '"' || *c == '\\') {
            (void)putchar('\\');
        }
        (void)putchar((unsigned char)*c < 0x20 ? ' ' : *c);
    }
    (void)printf("\", \"unit\": \"%s\", \"done\": %" PRIu64 ", \"total\": %" PRIu64
                 ", \"seconds\": %.3f, \"rate\": %.4f",
                 t->unit, t->done, t->total, now - t->started, rate_of(t, now));
    if (isfinite(t->loss)) {
        (void)printf(", \"loss\": %.6g", t->loss);
    }
    if (whole_left(t, now) >= 0.0) {
        (void)printf(", \"run_seconds_left\": %.1f", whole_left(t, now));
    }
    (void)printf("}\n");
    (void)fflush(stdout);
}

static void show(kd_ticker *t, double now)
{
    if (t->json) {
        json_line(t, now, "progress");
    } else if (t->tty) {
        draw_bar(t, now);
    } else {
        char text[160];
        line_text(t, text, sizeof text, now);
        (void)fprintf(stderr, "%s  %s\n", t->phase, text);
    }
    t->shown = now;
}

static void clear_bar(kd_ticker *t)
{
    if (t->drawn != 0) {
        (void)fprintf(stderr, "\r\033[K");
        t->drawn = 0;
    }
}

/* ---- the interface --------------------------------------------------------------------------- */

static void ticker_begin(void *user, const char *phase, const char *unit, uint64_t first, uint64_t total)
{
    kd_ticker *t = user;
    (void)snprintf(t->phase, sizeof t->phase, "%s", phase);
    (void)snprintf(t->unit, sizeof t->unit, "%s", unit);
    if (t->whole_total > 0) { /* `done` is the last phase's, `first` of this one are in the whole's `first` */
        t->whole_before += t->done;
        t->whole_before -= KD_MIN(first, t->whole_before);
    }
    t->first = first;
    t->done = first;
    t->total = total;
    t->loss = NAN;
    t->started = kd_now();
    t->shown = t->started;
    t->open = true;
}

static void ticker_step(void *user, uint64_t done, double loss)
{
    kd_ticker *t = user;
    t->done = done;
    t->loss = loss;
    if (t->quiet) {
        return;
    }
    const double now = kd_now();
    const double every = t->tty && !t->json ? 0.1 : 10.0;
    if (now - t->shown >= every) {
        show(t, now);
    }
}

static void ticker_end(void *user, const char *summary)
{
    kd_ticker *t = user;
    if (!t->open) {
        return;
    }
    t->open = false;
    const double now = kd_now();
    clear_bar(t);
    if (t->json) {
        json_line(t, now, "done");
        return;
    }
    if (t->quiet) {
        return;
    }
    char took[32];
    char left[32] = "";
    char run[48] = "";
    duration_text(took, sizeof took, now - t->started);
    if (t->whole_before + t->done < t->whole_total) {
        duration_text(left, sizeof left, whole_left(t, now));
        (void)snprintf(run, sizeof run, "  ETA of the run %s", left);
    }
    (void)fprintf(stderr, "%s  %" PRIu64 " %s in %s (%.*f/s)%s%s%s\n", t->phase, t->done, t->unit, took,
                  rate_of(t, now) < 10.0 ? 2 : 0, rate_of(t, now), summary != NULL ? "  " : "",
                  summary != NULL ? summary : "", run);
}

static void ticker_whole(void *user, uint64_t first, uint64_t total)
{
    kd_ticker *t = user;
    t->whole_first = first;
    t->whole_before = first;
    t->done = 0;
    t->whole_total = total;
    t->whole_started = kd_now();
}

static void ticker_note(void *user, const char *text)
{
    kd_ticker *t = user;
    clear_bar(t);
    if (!t->quiet) {
        (void)fprintf(stderr, "%s\n", text);
    }
}

static bool ticker_stop(void *user)
{
    (void)user;
    return kd_interrupted();
}

static bool ticker_save(void *user)
{
    (void)user;
    return kd_save_wanted();
}

kd_progress kd_ticker_start(kd_ticker *ticker, const kd_common *common)
{
    memset(ticker, 0, sizeof *ticker);
    ticker->json = common->json;
    ticker->quiet = common->quiet;
    const char *term = getenv("TERM");
    const char *no_color = getenv("NO_COLOR");
    ticker->tty = isatty(STDERR_FILENO) == 1 && term != NULL && strcmp(term, "dumb") != 0;
    ticker->color = ticker->tty && (no_color == NULL || *no_color == '\0');
    ticker->loss = NAN;
    kd_process_polls();
    const kd_progress p = {ticker,      ticker_begin, ticker_step, ticker_end,
                           ticker_note, ticker_whole, ticker_stop, ticker_save};
    return p;
}
