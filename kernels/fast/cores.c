/* How many processors this process may use. */
#include "kernels/kd_backend.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_BYTES = 1024, MOST = 1 << 20 };

/* Processors of a quota of `used` microseconds in every `period`; MOST: no quota. */
static int of_quota(long long used, long long period)
{
    return used > 0 && period > 0 ? (int)KD_MIN((used + period - 1) / period, MOST) : MOST;
}

static int v2_quota(const char *dir)
{
    char path[PATH_BYTES + 32];
    long long used = 0, period = 0;
    (void)snprintf(path, sizeof path, "%s/cpu.max", dir);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return MOST;
    }
    const int got = fscanf(f, "%lld %lld", &used, &period); /* "max 100000" yields 0 fields */
    (void)fclose(f);
    return got == 2 ? of_quota(used, period) : MOST;
}

static long long v1_number(const char *dir, const char *name)
{
    char path[PATH_BYTES + 32];
    long long v = 0;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return 0;
    }
    if (fscanf(f, "%lld", &v) != 1) {
        v = 0;
    }
    (void)fclose(f);
    return v;
}

static int v1_quota(const char *dir)
{
    return of_quota(v1_number(dir, "cpu.cfs_quota_us"), v1_number(dir, "cpu.cfs_period_us"));
}

/* The least quota of a group and of all above it. */
static int quota_upwards(const char *mount, const char *group, int (*quota)(const char *dir))
{
    char dir[PATH_BYTES];
    const size_t root = strlen(mount);
    int least = MOST;
    if ((size_t)snprintf(dir, sizeof dir, "%s%s", mount, group) >= sizeof dir) {
        return quota(mount);
    }
    for (;;) {
        const int n = quota(dir);
        least = KD_MIN(least, n);
        char *slash = strrchr(dir, '/');
        if (strlen(dir) <= root || slash == NULL || (size_t)(slash - dir) < root) {
            return least;
        }
        *slash = '\0';
    }
}

/* Is `name` one of the names in "cpu,cpuacct"? */
static bool lists(const char *names, const char *name)
{
    const size_t n = strlen(name);
    for (const char *p = names; p != NULL; p = strchr(p, ',')) {
        p += *p == ',';
        if (strncmp(p, name, n) == 0 && (p[n] == ',' || p[n] == '\0')) {
            return true;
        }
    }
    return false;
}

int kd_cores_of_groups(const char *groups, const char *mount)
{
    char line[PATH_BYTES], v1[PATH_BYTES];
    int least = MOST;
    FILE *f = fopen(groups, "re");
    if (f == NULL) {
        return v2_quota(mount);
    }
    while (fgets(line, sizeof line, f) != NULL) { /* "0::/group" of version 2, "4:cpu,cpuacct:/group" of version 1 */
        line[strcspn(line, "\n")] = '\0';
        char *names = strchr(line, ':');
        char *group = names != NULL ? strchr(names + 1, ':') : NULL;
        if (group == NULL) {
            continue;
        }
        *group++ = '\0';
        names++;
        if (names[0] == '\0') {
            const int n = quota_upwards(mount, group, v2_quota);
            least = KD_MIN(least, n);
        } else if (lists(names, "cpu")) {
            (void)snprintf(v1, sizeof v1, "%.900s/cpu", mount);
            const int n = quota_upwards(v1, group, v1_quota);
            least = KD_MIN(least, n);
        }
    }
    (void)fclose(f);
    return least;
}

int kd_cores(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    const int allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? KD_MAX(CPU_COUNT(&set), 1) : 1;
    const int quota = kd_cores_of_groups("/proc/self/cgroup", "/sys/fs/cgroup");
    return KD_MIN(allowed, quota);
}
