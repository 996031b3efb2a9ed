/* Inside of weights: what saving asks of open weights. */
#ifndef KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H
#define KD_FORMATS_WEIGHTS_WEIGHTS_PRIV_H

#include "formats/weights/weights.h"

/* The map in force; NULL: names are the file's. */
const kd_name_map *kdi_weights_map(const kd_weights *w);

#endif
