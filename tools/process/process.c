/* First and last things of a program: see process.h. */
#include "tools/process/process.h"

#include "formats/base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

/* What a signal handler cannot do without. */
static volatile sig_atomic_t interrupted, save_wanted, polled, outlives;
static volatile time_t interrupted_at;
static char name[32];

/* ---- handlers -------------------------------------------------------------------------------- */

static void say(const char *text)
{
    (void)!write(STDERR_FILENO, text, strlen(text));
}

static time_t seconds_now(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void end_now(const char *why)
{
    kd_io_unlink_temps();
    say(name);
    say(why);
    _exit(kd_status_exit_code(KD_E_CANCELLED));
}

static void on_stop(int sig)
{
    const int saved = errno;
    if (polled == 0) {
        end_now(": interrupted\n");
    }
    if (interrupted == 0) {
        interrupted = 1;
        interrupted_at = seconds_now();
    } else if (sig == SIGINT && seconds_now() > interrupted_at) { /* `timeout -s INT` sends two in a row */
        end_now(": interrupted again: ends without saving\n");
    }
    errno = saved;
}

static void on_save(int sig)
{
    (void)sig;
    save_wanted = 1;
}

static void on_pipe(int sig)
{
    if (outlives == 0) {
        kd_io_unlink_temps();
        (void)signal(sig, SIG_DFL);
        (void)raise(sig); /* takes effect when this handler returns */
    }
}

static void say_number(uint64_t v)
{
    char digits[21];
    size_t at = sizeof digits - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + v % 10);
        v /= 10;
    } while (v > 0);
    say(digits + at);
}

/* The name of the file goes to the terminal byte by byte: nothing in it may be a command. */
static void say_path(const char *path)
{
    for (const char *c = path; *c != '\0'; c++) {
        const unsigned char b = (unsigned char)*c;
        (void)!write(STDERR_FILENO, b < 0x20 || b == 0x7f ? "?" : c, 1);
    }
}

static void on_bus(int sig, siginfo_t *info, void *context)
{
    (void)context;
    uint64_t offset = 0;
    const char *path = kd_io_map_at(info->si_addr, &offset);
    if (path == NULL) { /* not a file of ours: end as if there were no handler */
        (void)signal(sig, SIG_DFL);
        return;
    }
    kd_io_unlink_temps();
    say(name);
    say(": ");
    say_path(path);
    say(": expected the bytes from ");
    say_number(offset);
    say(" on, found none: the file was cut, or its disk failed, while it was read; restore it and run again\n");
    _exit(kd_status_exit_code(KD_E_IO));
}

/* ---- the program ----------------------------------------------------------------------------- */

static void on(int sig, void (*handler)(int))
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART;
    (void)sigemptyset(&action.sa_mask);
    (void)sigaction(sig, &action, NULL);
}

static bool ignored(int sig)
{
    struct sigaction action;
    return sigaction(sig, NULL, &action) == 0 && action.sa_handler == SIG_IGN;
}

static void open_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && errno == EBADF) { /* open gives the lowest free number: fd */
            (void)open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
        }
    }
}

void kd_process_begin(const char *program)
{
    static const int STOPS[] = {SIGINT, SIGTERM, SIGXCPU, SIGUSR1};
    (void)snprintf(name, sizeof name, "%s", program);
    open_descriptors();
    for (size_t i = 0; i < KD_COUNTOF(STOPS); i++) {
        on(STOPS[i], on_stop);
    }
    if (!ignored(SIGHUP)) {
        on(SIGHUP, on_stop);
    }
    if (!ignored(SIGPIPE)) {
        on(SIGPIPE, on_pipe);
    }
    on(SIGUSR2, on_save);
    on(SIGXFSZ, SIG_IGN);
    struct sigaction bus;
    memset(&bus, 0, sizeof bus);
    bus.sa_sigaction = on_bus;
    bus.sa_flags = SA_SIGINFO;
    (void)sigemptyset(&bus.sa_mask);
    (void)sigaction(SIGBUS, &bus, NULL);
}

static bool reader_gone(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR) != 0;
}

/* Why standard output takes nothing: the call that failed first has left no trace, another one fails like it. */
static int why_not(void)
{
    errno = 0;
    return write(STDOUT_FILENO, "\n", 1) < 0 ? errno : 0;
}

int kd_process_end(int rc)
{
    const bool failed = ferror(stdout) != 0;
    const bool gone = reader_gone();
    int why = failed && !gone ? why_not() : 0;
    errno = 0;
    const bool lost = fclose(stdout) != 0;
    if (!failed && !lost) {
        return rc;
    }
    why = lost && errno != 0 ? errno : why;
    if (gone) {
        return outlives != 0 || rc != 0 ? rc : 128 + SIGPIPE;
    }
    (void)fprintf(stderr, "%s: standard output: cannot write%s%s: the output above is not whole\n", name,
                  why != 0 ? ": " : "", why != 0 ? strerror(why) : "");
    return rc != 0 ? rc : kd_status_exit_code(KD_E_WRITE);
}

void kd_process_polls(void)
{
    polled = 1;
}

bool kd_interrupted(void)
{
    return interrupted != 0;
}

bool kd_save_wanted(void)
{
    const bool wanted = save_wanted != 0;
    save_wanted = 0;
    return wanted;
}

void kd_process_outlive_reader(void)
{
    outlives = 1;
}
