/* Frames of joints from stdin to classes: cc classify.c $(pkg-config --cflags --libs last)
 * usage: classify STUDENT.safetensors < FRAMES      a frame: a body's joints, x y z each, as text */
#include <last.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    kd_last *student = NULL;
    char why[KD_LAST_MESSAGE];
    if (argc != 2 || kd_last_open(argv[1], NULL, &student, why, sizeof why) != KD_LAST_OK) {
        fprintf(stderr, "%s\n", argc == 2 ? why : "usage: classify STUDENT.safetensors < FRAMES");
        return 1;
    }
    const int numbers = kd_last_joints(student) * kd_last_channels(student);
    float *body = malloc((size_t)numbers * sizeof *body);
    int n = 0;
    while (body != NULL && scanf("%f", &body[n]) == 1) {
        if (++n == numbers && kd_last_push(student, body, 1, NULL, NULL) != KD_LAST_OK) {
            fprintf(stderr, "%s\n", kd_last_message(student));
        }
        n %= numbers;
    }
    const int whole = body != NULL && feof(stdin) && n == 0;
    const int rc = whole ? kd_last_run(student) : KD_LAST_E_ARG;
    if (rc == KD_LAST_OK) {
        const int best = kd_last_best(student);
        printf("%s %.9g\n", kd_last_class_name(student, best), (double)kd_last_probabilities(student)[best]);
    } else {
        fprintf(stderr, "%s\n", whole ? kd_last_message(student) : "expected whole frames of numbers");
    }
    free(body);
    kd_last_close(student);
    return rc != KD_LAST_OK;
}
