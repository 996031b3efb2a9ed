/* A folder of numbered pictures in the place of a video: img_00001.jpg, image_1.png, frame_000000.jpg, 00001.jpg.
 *
 * All pictures have one prefix and one ending; numbers begin at 0 or 1, have no gap and may be padded or not.  Pictures
 * of optical flow beside them (flow_x*, flow_y*, x_*, y_*) and files that are no pictures are passed over.  Where the
 * first number is given, pictures with smaller ones are passed over, and the first may have any.
 */
#ifndef KD_FORMATS_VIDEO_FRAMES_H
#define KD_FORMATS_VIDEO_FRAMES_H

#include "kernels/kd_base.h"

typedef struct kd_frames {
    char **name; /* [n] in the order of their numbers, without the folder; one block */
    size_t n;
} kd_frames;

/* first: number of the first picture; NULL: 0 or 1, as the folder has it.  KD_E_IO: not a folder, or no picture in it;
 * KD_E_DATA: a gap, a number twice, two prefixes, a name without a number, no picture with the first number: by name.
 */
KD_NODISCARD kd_status kd_frames_list(const char *dir, const size_t *first, kd_frames *out, kd_err *err);
void kd_frames_free(kd_frames *f); /* NULL and zeroed are legal */

/* Width and height that the head of a JPEG, PNG or BMP file states; false: it states none.  `data`: the file. */
bool kd_picture_size(const uint8_t *data, size_t n, int *width, int *height);

#endif
