/* Stand-ins for files, told by their first bytes: see io_internal.h. */
#include "formats/base/io_internal.h"

#include <strings.h>

static bool begins(const char *text, size_t n, const char *with)
{
    const size_t k = strlen(with);
    return n >= k && strncasecmp(text, with, k) == 0;
}

const char *kdi_sniff(const void *data, size_t n)
{
    static const char *const page[] = {"<!doctype html", "<html", "<head", "<body", "<?xml", "<error"};
    static const char *const answer[] = {"404: not found",
                                         "404 not found",
                                         "403: forbidden",
                                         "403 forbidden",
                                         "not found",
                                         "entry not found",
                                         "access denied",
                                         "forbidden",
                                         "unauthorized",
                                         "repository not found",
                                         "invalid username or password."};
    const char *text = data;
    if (begins(text, n, "\xef\xbb\xbf")) {
        text += 3;
        n -= 3;
    }
    while (n > 0 && (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n')) {
        text++;
        n--;
    }
    if (begins(text, n, "version https://git-lfs.github.com/spec/") || begins(text, n, "version https://hawser.")) {
        return "a Git LFS pointer, not the file: run `git lfs pull` where it was cloned";
    }
    for (size_t i = 0; i < KD_COUNTOF(page); i++) {
        if (begins(text, n, page[i])) {
            return "a web page, not the file: fetch it again (by the download link, logged in where that is asked)";
        }
    }
    while (n > 0 && n < KDI_SNIFF_BYTES && (text[n - 1] == '\n' || text[n - 1] == '\r')) {
        n--;
    }
    for (size_t i = 0; i < KD_COUNTOF(answer); i++) { /* the whole file is that line */
        if (n == strlen(answer[i]) && begins(text, n, answer[i])) {
            return "the answer of a server that did not have the file: fetch it again";
        }
    }
    return NULL;
}
