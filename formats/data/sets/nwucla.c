/* Northwestern-UCLA Multiview Action 3D (Wang et al. 2014): 10 actions by 10 people before 3 Kinects; cross-view as in
 * CTR-GCN's feeders/feeder_ucla.py: views 1 and 2 train, view 3 tests.
 *
 * A sample is called aAA_sSS_eEE_vVV: action (of 1 to 12; 7 and 10 do not exist), subject, take from 0, view.  A
 * kd_sample_id counts actions without the gaps, so the label is its action minus 1, and takes from 1. */
#include "formats/data/sets/data_set.h"

enum { NAME = 15, CLASSES = 10, VIEWS = 3 };

static const char *const CLASS[CLASSES] = {"pick up with one hand",
                                           "pick up with two hands",
                                           "drop trash",
                                           "walk around",
                                           "sit down",
                                           "stand up",
                                           "donning",
                                           "doffing",
                                           "throw",
                                           "carry"};

/* "aDD_sDD_eDD_vDD": the four numbers. */
static bool numbers(const char *s, size_t len, unsigned n[4])
{
    static const char FORM[] = "a##_s##_e##_v##";
    if (len != NAME) {
        return false;
    }
    for (size_t i = 0; i < NAME; i++) {
        const unsigned digit = (unsigned)(unsigned char)s[i] - '0';
        if (FORM[i] != '#' ? s[i] != FORM[i] : digit > 9) {
            return false;
        }
        n[i / 4] = i % 4 == 1 ? digit : i % 4 == 2 ? 10 * n[i / 4] + digit : n[i / 4];
    }
    return true;
}

static bool parse(const char *s, size_t len, kd_sample_id *out)
{
    static const uint16_t ACTION[] = {0, 1, 2, 3, 4, 5, 6, 0, 7, 8, 0, 9, 10};
    unsigned n[4] = {0};
    if (!numbers(s, len, n) || n[0] >= KD_COUNTOF(ACTION) || ACTION[n[0]] == 0 || n[1] == 0 || n[3] == 0) {
        return false;
    }
    *out = (kd_sample_id){.setup = 1,
                          .camera = (uint16_t)n[3],
                          .subject = (uint16_t)n[1],
                          .replication = (uint16_t)(n[2] + 1),
                          .action = ACTION[n[0]]};
    return true;
}

static kd_split_side by_view(const kd_sample_id *id)
{
    return id->camera > VIEWS ? KD_SIDE_NONE : id->camera == VIEWS ? KD_SIDE_VAL : KD_SIDE_TRAIN;
}

static const kd_named_split SPLITS[] = {{"nwucla-xview", by_view}};

const kd_data_set kd_data_set_nwucla = {.name = "nwucla",
                                        .title = "NW-UCLA",
                                        .parse = parse,
                                        .n_classes = CLASSES,
                                        .classes = CLASS,
                                        .split = SPLITS,
                                        .n_splits = KD_COUNTOF(SPLITS)};
