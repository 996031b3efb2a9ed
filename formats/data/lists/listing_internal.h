/* Between the files of listings. */
#ifndef KD_FORMATS_DATA_LISTS_LISTING_INTERNAL_H
#define KD_FORMATS_DATA_LISTS_LISTING_INTERNAL_H

#include "formats/data/lists/listing.h"

/* Text at *out, which has room for it; *out moves behind its zero. */
const char *kdi_listing_printf(char **out, const char *fmt, ...) KD_PRINTF(2, 3);

/* Is the text an array of objects, or an object?  (A path may begin with a bracket.) */
bool kdi_listing_is_json(const char *text, size_t bytes);

/* Something-Something v2: train.json, validation.json. */
KD_NODISCARD kd_status kdi_listing_json(const char *text, size_t bytes, const char *name, kd_listing *out, kd_err *err);

#endif
