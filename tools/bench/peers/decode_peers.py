#!/usr/bin/env python3
"""Compare `kd bench decode` with decord and PyAV on the same files, in one run, and print the ratios.

    decode_peers.py --kd build/kd source.mp4 [packed.mp4 ...]

16 frames spread over each clip, as RGB, on one thread; the sides take turns, so that a busy machine is busy for all.
The figure is processor time, the least of the rounds; a ratio is peer / ours.  decord and PyAV are needed for this
comparison only; nothing of lastkd uses them.
"""

import argparse
import json
import resource
import subprocess

import av
import decord

FRAMES = 16


def processor_seconds(work):
    def used():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    before = used()
    work()
    return used() - before


def with_decord(path):
    reader = decord.VideoReader(path, num_threads=1)
    n = len(reader)
    assert reader.get_batch([i * n // FRAMES for i in range(FRAMES)]).asnumpy().shape[0] == FRAMES


def with_pyav(path):
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        packets = [p for p in container.demux(stream) if p.size]
        n = len(packets)
        wanted, got, at = {i * n // FRAMES for i in range(FRAMES)}, 0, 0
        for packet in packets + [None]:
            for frame in stream.codec_context.decode(packet):
                if at in wanted:
                    got += frame.to_ndarray(format="rgb24").shape[2] == 3
                at += 1
    assert got == FRAMES


def with_kd(kd, path):
    """Processor seconds of a first and of later readings."""
    run = subprocess.run([kd, "bench", "decode", path, "--json"], check=True, capture_output=True)
    rows = json.loads(run.stdout)["rows"]
    return [next(r["cpu_s"] for r in rows if r["name"].endswith(end)) for end in ("first reading", "later readings")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kd", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    print(f"decord {decord.__version__}, PyAV {av.__version__}; {FRAMES} frames a clip, milliseconds of one core")
    source = None
    for path in args.files:
        best = {}
        for _ in range(args.rounds):
            first, later = with_kd(args.kd, path)
            row = {
                "first": first,
                "later": later,
                "decord": processor_seconds(lambda p=path: with_decord(p)),
                "pyav": processor_seconds(lambda p=path: with_pyav(p)),
            }
            best = {k: min(v, best.get(k, v)) for k, v in row.items()}
        source = source or best
        print(path)
        for name, text in (("first", "first reading"), ("later", "later readings")):
            print(
                f"  {text:<15} {1e3 * best[name]:8.1f}   decord / ours {best['decord'] / best[name]:5.2f}"
                f"   PyAV / ours {best['pyav'] / best[name]:5.2f}"
                f"   first file's first reading / this {source['first'] / best[name]:6.2f}"
            )
        print(f"  decord {1e3 * best['decord']:.1f}, PyAV {1e3 * best['pyav']:.1f}")


if __name__ == "__main__":
    main()
