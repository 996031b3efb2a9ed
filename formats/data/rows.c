/* Descriptions of rows. */
#include "formats/data/rows.h"

kd_row_spec kd_row_spec_of(const char *name, kd_dtype dtype, int rank, const int64_t *dim)
{
    kd_row_spec s = {.name = name, .dtype = dtype, .rank = rank, .bytes = kd_dtype_size(dtype)};
    KD_ASSERT(rank <= KD_ROW_RANK);
    for (int i = 0; i < rank; i++) {
        s.dim[i] = dim[i];
        s.bytes *= (size_t)dim[i];
    }
    return s;
}

bool kd_sample_unreadable(kd_status st)
{
    return st == KD_E_IO || st == KD_E_FORMAT || st == KD_E_DATA || st == KD_E_NUMERIC;
}
