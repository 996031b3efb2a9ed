"""A sequence of one body to classes, by ctypes: classify.py liblast.so STUDENT.safetensors < FRAMES
FRAMES: numbers as text, frame after frame, x y z of each joint."""
import ctypes
import sys

last = ctypes.CDLL(sys.argv[1])
last.kd_last_class_name.restype = ctypes.c_char_p
last.kd_last_message.restype = ctypes.c_char_p
last.kd_last_probabilities.restype = ctypes.POINTER(ctypes.c_float)

student = ctypes.c_void_p()
why = ctypes.create_string_buffer(512)
if last.kd_last_open(sys.argv[2].encode(), None, ctypes.byref(student), why, len(why)) != 0:
    sys.exit(why.value.decode())

numbers = [float(word) for word in sys.stdin.read().split()]
frame = last.kd_last_joints(student) * last.kd_last_channels(student)
frames = len(numbers) // frame
if len(numbers) % frame != 0:
    sys.exit("expected whole frames of numbers")
joints = (ctypes.c_float * len(numbers))(*numbers)
if last.kd_last_classify(student, joints, frames, 1, None, None) != 0:
    sys.exit(last.kd_last_message(student).decode())

best = last.kd_last_best(student)
print(last.kd_last_class_name(student, best).decode(), "%.9g" % last.kd_last_probabilities(student)[best])
last.kd_last_close(student)
