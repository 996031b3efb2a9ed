/* Where the recipes and weights that come with the program are: the folder configs/ of the source tree. */
#ifndef KD_TOOLS_PRESETS_H
#define KD_TOOLS_PRESETS_H

#include "kernels/kd_base.h"

/* Path of the preset `name` ("demo/teacher.yaml") in *out (kd_free).  Found from where the program itself lies, so that
 * an installation may be moved: PREFIX/bin/kd has PREFIX/share/lastkd/configs, BUILD/kd has BUILD/share/lastkd/configs.
 * KD_E_IO when neither folder holds it, KD_E_OOM. */
KD_NODISCARD kd_status kd_preset_path(const char *name, char **out, kd_err *err);

#endif
