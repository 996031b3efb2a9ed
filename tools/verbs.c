/* Programs made of verbs, and --version: see args.h. */
#include "tools/args_internal.h"

#include <stdio.h>

typedef struct verb_table {
    const kd_verb *verbs;
} verb_table;

static const char *verb_name(size_t i, const void *user)
{
    const verb_table *t = user;
    return t->verbs[i].name;
}

static void print_verbs(FILE *f, const char *name, const char *about, const kd_verb *verbs, size_t count)
{
    (void)fprintf(f, "usage: %s COMMAND [options]\n\n%s\n\ncommands:\n", name, about);
    for (size_t i = 0; i < count; i++) {
        (void)fprintf(f, "  %-14s %s\n", verbs[i].name, verbs[i].about);
    }
    (void)fprintf(f, "\n`%s COMMAND --help` shows a command's options and their defaults.\n", name);
}

int kd_dispatch(const char *name, const char *about, const kd_verb *verbs, int argc, char **argv)
{
    size_t count = 0;
    while (verbs[count].name != NULL) {
        count++;
    }
    const char *word = argc > 1 ? argv[1] : NULL;
    if (word == NULL) {
        print_verbs(stderr, name, about, verbs, count);
        return kd_status_exit_code(KD_E_ARG);
    }
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0 || strcmp(word, "help") == 0) {
        print_verbs(stdout, name, about, verbs, count);
        return 0;
    }
    if (strcmp(word, "--version") == 0) {
        kd_print_version(name);
        return 0;
    }
    const kdi_describe what = kdi_describe_mode(word);
    if (what == KDI_DESCRIBE_MAN || what == KDI_DESCRIBE_BASH) {
        return kdi_describe_verbs(name, about, verbs, what);
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(word, verbs[i].name) == 0) {
            return verbs[i].run(argc - 1, argv + 1);
        }
    }
    const verb_table table = {verbs};
    const char *near = kd_nearest(word, count, verb_name, &table);
    const kd_cmd self = {.name = name};
    if (near != NULL) {
        return kd_usage(&self, "unknown command '%s'; did you mean '%s'?", word, near);
    }
    return kd_usage(&self, "unknown command '%s'", word);
}

/* Versions found at configure time (tools/CMakeLists.txt). */
void kd_print_version(const char *program)
{
    static const struct {
        const char *name, *version;
    } LIBS[] = {
        {"FFmpeg", KD_VERSION_FFMPEG}, {"oneDNN", KD_VERSION_ONEDNN},     {"CUDA", KD_VERSION_CUDA},
        {"cuDNN", KD_VERSION_CUDNN},   {"NCCL", KD_VERSION_NCCL},         {"MPI", KD_VERSION_MPI},
        {"zstd", KD_VERSION_ZSTD},     {"protobuf", KD_VERSION_PROTOBUF},
    };
    (void)printf("%s %s\n", program, kd_version());
    for (size_t i = 0; i < KD_COUNTOF(LIBS); i++) {
        (void)printf("  %-8s %s\n", LIBS[i].name, LIBS[i].version);
    }
    (void)printf("  %-8s %s\n", "compiler", KD_VERSION_COMPILER);
}
