"""Real files of every container, with right headers and with the wrong ones that people have.

What is written is known, so that what is read can be counted.
"""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import soundfile

RATE_HZ = 22_050
SECONDS = 4
FRAMES = SECONDS * RATE_HZ
#: Sizes in headers: never written, of the first second, of what a pipe cannot know.
STALE = {"none": 0, "second": 1, "unknown": -1}


def music(frames: int = FRAMES, channels: int = 2, rate_hz: int = RATE_HZ, seed: int = 0) -> np.ndarray:
    """Float32 [frames, channels] of 16-bit values: a tone and noise."""
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(2 * np.pi * 330 * np.arange(frames) / rate_hz)[:, None]
    sound = tone * np.linspace(1, 0.5, channels) + rng.normal(0, 0.05, (frames, channels))
    return (np.rint(np.clip(sound, -0.99, 0.99) * 32_768) / 32_768).astype(np.float32)


def by_libsndfile(form: str, subtype: str, samples: np.ndarray, rate_hz: int = RATE_HZ, **how) -> bytes:
    """A file as libsndfile writes it."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate_hz, samples.shape[1], subtype, format=form, **how) as sound:
        for start in range(0, len(samples), 4096):  # its Vorbis writer has no stack for more
            sound.write(samples[start : start + 4096])
    return file.getvalue()


def by_ffmpeg(
    form: str,
    codec: str,
    samples: np.ndarray,
    rate_hz: int = RATE_HZ,
    layout: str = "stereo",
    bit_rate: int = 128_000,
    piped: bool = False,
    **how: str,
) -> bytes:
    """A file as ffmpeg's libraries write it; one that is piped has no sizes put in at the end."""
    file = io.BytesIO()
    with av.open(
        SimpleNamespace(write=file.write) if piped else file, "w", format=form, options=how
    ) as container:
        stream = container.add_stream(codec, rate=rate_hz, layout=layout)
        whole = np.ascontiguousarray(
            np.rint(samples * 32_768).clip(-32_768, 32_767).astype("<i2").reshape(1, -1)
        )
        frame = av.AudioFrame.from_ndarray(whole, format="s16", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate_hz, 0, Fraction(1, rate_hz)
        stream.bit_rate = bit_rate
        known = [form.name for form in av.Codec(codec, "w").audio_formats or ()]
        stream.codec_context.format = next(f for f in ("s16", "s16p", "flt", "fltp") if f in known)
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(stream.codec_context.format, layout, rate_hz, size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return file.getvalue()


@dataclass(frozen=True)
class Case:
    """A file that is whole, whatever its header counts.

    Attributes:
        name: With its suffix.
        make: Gives the bytes.
        frames: Samples a channel that were written.
        slack: By how many samples a coding may lengthen or shorten it.
        exact: What comes back bit by bit, or None.
        rate_hz: Of what was written.
    """

    name: str
    make: Callable[[], bytes]
    frames: int = FRAMES
    slack: int = 0
    exact: np.ndarray | None = None
    rate_hz: int = RATE_HZ


def patched(content: bytes, place: int, form: str, value: int) -> bytes:
    """A number in a file replaced; negative ones fit into unsigned fields too."""
    size = struct.calcsize(form)
    return content[:place] + struct.pack(form.upper(), value % (1 << 8 * size)) + content[place + size :]


def chunk_files() -> Iterator[Case]:
    """Files whose samples lie in one piece, of every size that is wrong."""
    kinds = [
        ("wav", "WAV", "PCM_16", "FILE", b"data", "<I", 0),
        ("24.wav", "WAV", "PCM_24", "FILE", b"data", "<I", 0),
        ("float.wav", "WAV", "FLOAT", "FILE", b"data", "<I", 0),
        ("rifx.wav", "WAV", "PCM_16", "BIG", b"data", "<I", 0),
        ("ext.wav", "WAVEX", "PCM_16", "FILE", b"data", "<I", 0),
        ("aiff", "AIFF", "PCM_16", "FILE", b"SSND", ">I", 8),
        ("sowt.aiff", "AIFF", "PCM_16", "LITTLE", b"SSND", ">I", 8),
        ("float.aiff", "AIFF", "FLOAT", "FILE", b"SSND", ">I", 8),
        ("caf", "CAF", "PCM_16", "BIG", b"data", ">q", 4),
        ("little.caf", "CAF", "PCM_24", "LITTLE", b"data", ">q", 4),
        ("w64", "W64", "PCM_16", "FILE", b"data\xf3\xac", "<q", 24),
        ("au", "AU", "PCM_16", "BIG", b".snd", ">I", 0),
        ("little.au", "AU", "PCM_16", "LITTLE", b"dns.", "<I", 0),
        ("rf64", "RF64", "PCM_16", "FILE", b"ds64", "<q", 0),
    ]
    offsets = {b"data\xf3\xac": 16, b".snd": 8, b"dns.": 8, b"ds64": 16}
    samples = music()
    for suffix, form, subtype, endian, name, number, inner in kinds:
        big = ">I" if endian == "BIG" and form == "WAV" else number

        def make(value=None, form=form, subtype=subtype, endian=endian, name=name, number=big, inner=inner):
            content = by_libsndfile(form, subtype, samples, endian=endian)
            if value is None:
                return content
            place = content.index(name) + offsets.get(name, 4)
            n_bytes = samples[:RATE_HZ].size * {"PCM_24": 3, "FLOAT": 4}.get(subtype, 2) + inner
            return patched(content, place, number, value * n_bytes if value > 0 else value)

        yield Case(f"right.{suffix}", make, exact=samples)
        for word, value in STALE.items():
            if (form, word) != ("RF64", "unknown"):  # neither library opens it, and nothing writes it
                yield Case(f"{word}.{suffix}", lambda value=value, make=make: make(value), exact=samples)


def more_chunk_files() -> Iterator[Case]:
    """Both sizes wrong, and other chunks behind the samples."""
    samples = music()

    def both() -> bytes:
        content = by_libsndfile("WAV", "PCM_16", samples)
        return patched(patched(content, 4, "<I", 36 + 4000), content.index(b"data") + 4, "<I", 4000)

    def listed(size: int | None = None) -> bytes:
        content = by_libsndfile("WAV", "PCM_16", samples)
        content += b"LIST" + struct.pack("<I", 10_000) + b"INFO" + b"note" * 2499
        return content if size is None else patched(content, content.index(b"data") + 4, "<I", size)

    def counted() -> bytes:
        content = by_libsndfile("AIFF", "PCM_16", samples)
        content = patched(content, content.index(b"COMM") + 10, ">I", 100)
        return patched(content, content.index(b"SSND") + 4, ">I", 408)

    yield Case("both.wav", both, exact=samples)
    yield Case("list.wav", listed, exact=samples)
    yield Case(
        "tag.wav", lambda: by_libsndfile("WAV", "PCM_16", samples) + b"TAG" + bytes(5000), exact=samples
    )
    yield Case("stale-list.wav", lambda: listed(4000), exact=samples)
    yield Case("both.aiff", counted, exact=samples)


def with_flac_frames(content: bytes, frames: int) -> bytes:
    """The 36-bit count of STREAMINFO replaced."""
    field = int.from_bytes(content[18:26], "big")
    return content[:18] + (field >> 36 << 36 | frames).to_bytes(8, "big") + content[26:]


def flac_files() -> Iterator[Case]:
    samples = music()
    for frames in (0, 1, RATE_HZ, FRAMES - 5000):
        for subtype in ("PCM_16", "PCM_24"):
            content = lambda subtype=subtype: by_libsndfile("FLAC", subtype, samples)  # noqa: E731
            name = f"{frames}-{subtype[-2:]}.flac"
            yield Case(name, lambda frames=frames, c=content: with_flac_frames(c(), frames), exact=samples)


def mp3(samples: np.ndarray) -> bytes:
    """Of a variable bit rate."""
    return by_libsndfile("MP3", "MPEG_LAYER_III", samples)


def without_first_frame(content: bytes) -> bytes:
    """Without the frame that counts the others."""
    second = content.index(content[:2], 4)
    assert b"Xing" in content[:second] or b"Info" in content[:second]
    return content[second:]


def with_mp3_frames(content: bytes, frames: int) -> bytes:
    place = max(content.find(b"Xing", 0, 60), content.find(b"Info", 0, 60))
    return patched(content, place + 8, ">I", frames)


def quiet_then_loud() -> np.ndarray:
    """The first second is no measure of the rest, so that estimates of a length fail."""
    samples = music(seed=1)
    samples[:RATE_HZ] *= 1e-3
    return samples


def cover(n_bytes: int) -> bytes:
    """An ID3v2 tag."""
    size = bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\x00\x00" + size + b"APIC" + b"\xff\xd8" * ((n_bytes - 4) // 2)


def ape_tag(n_bytes: int) -> bytes:
    """An APE tag that says its size at its end alone, with bytes that look like sound."""
    return b"\xff\xfb\x90\x64" * (n_bytes // 4) + b"APETAGEX" + struct.pack("<4I8x", 1000, n_bytes + 32, 1, 0)


def appended_id3(n_bytes: int) -> bytes:
    """An ID3v2.4 tag for the end of a file: its size stands in a footer."""
    tag = cover(n_bytes)
    return b"ID3\x04\x00\x10" + tag[6:] + b"3DI\x04\x00\x10" + tag[6:10]


def mp3_files() -> Iterator[Case]:
    slack = 3 * 1152
    constant = lambda: by_ffmpeg("mp3", "libmp3lame", music(), write_xing="0", id3v2_version="0")  # noqa: E731
    loud_first = quiet_then_loud()[::-1]
    yield Case("right.mp3", lambda: mp3(music()), slack=0)
    yield Case("quiet.mp3", lambda: without_first_frame(mp3(quiet_then_loud())), slack=slack)
    yield Case("loud.mp3", lambda: without_first_frame(mp3(loud_first)), slack=slack)
    yield Case("zero.mp3", lambda: with_mp3_frames(mp3(music()), 0), slack=slack)
    yield Case("few.mp3", lambda: with_mp3_frames(mp3(music()), 39), slack=slack)
    yield Case("cover.mp3", lambda: cover(9_000) + constant(), slack=slack)
    yield Case("end.mp3", lambda: mp3(music()) + b"TAG" + bytes(125), slack=0)
    yield Case("ape.mp3", lambda: mp3(music()) + ape_tag(20_000) + b"TAG" + bytes(125), slack=0)
    yield Case("footer.mp3", lambda: mp3(music()) + appended_id3(20_000), slack=0)
    yield Case("joined.mp3", lambda: mp3(music()) + cover(3_000) + mp3(music(seed=2)), 2 * FRAMES, 3 * slack)


def ogg_pages(content: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    return [b"OggS" + part for part in content.split(b"OggS")[1:]]


def with_crc(page: bytes) -> bytes:
    """An Ogg page with the checksum that is right, bit by bit as the format has it."""
    crc = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc >> 31 else crc << 1
    return page[:22] + struct.pack("<I", crc) + page[26:]


def with_skipping_times(content: bytes) -> bytes:
    """An Opus file as ffmpeg makes of other rates: pages' times grow by more than their packets."""
    pages = ogg_pages(content)
    for number, page in enumerate(pages[2:], start=1):
        time = struct.unpack_from("<q", page, 6)[0] + 13 * number
        pages[1 + number] = with_crc(page[:6] + struct.pack("<q", time) + page[14:])
    return b"".join(pages)


def as_of_48_khz(content: bytes) -> bytes:
    """An Opus file that says that it was made of 48 kHz: libsndfile decodes at the rate said there."""
    first, *others = ogg_pages(content)
    place = first.index(b"OpusHead") + 12
    return b"".join([with_crc(first[:place] + struct.pack("<I", 48_000) + first[place + 4 :]), *others])


def in_webm(content: bytes) -> bytes:
    """The packets of an Opus file in WebM."""
    file = io.BytesIO()
    with av.open(io.BytesIO(content)) as ogg, av.open(file, "w", format="webm") as webm:
        said = ogg.streams.audio[0].codec_context
        stream = webm.add_stream("libopus", rate=48_000, layout=said.layout.name)
        stream.codec_context.extradata = said.extradata
        for packet in ogg.demux(ogg.streams.audio[0]):
            if packet.size:
                packet.stream = stream
                webm.mux(packet)
    return file.getvalue()


def with_serial(content: bytes, serial: int) -> bytes:
    """Chains have streams of several numbers."""
    pages = ogg_pages(content)
    return b"".join(with_crc(page[:14] + struct.pack("<I", serial) + page[18:]) for page in pages)


def ogg_files() -> Iterator[Case]:
    def opus(seed: int = 0) -> bytes:
        return by_libsndfile("OGG", "OPUS", music(4 * 24_000, rate_hz=24_000, seed=seed), 24_000)

    def vorbis(seed: int = 0) -> bytes:
        return by_libsndfile("OGG", "VORBIS", music(seed=seed))

    # libsndfile rounds an Opus file up to packets of 20 ms
    yield Case("right.ogg", vorbis)
    yield Case("right.opus", opus, 4 * 24_000, 480, rate_hz=24_000)
    yield Case("times.opus", lambda: with_skipping_times(opus()), 4 * 24_000, 480, rate_hz=24_000)
    yield Case("chain.ogg", lambda: with_serial(vorbis(), 1) + with_serial(vorbis(2), 2), 2 * FRAMES, 2048)
    chain = lambda: with_serial(opus(), 1) + with_serial(opus(2), 2)  # noqa: E731
    yield Case("chain.opus", chain, 8 * 24_000, 1440, rate_hz=24_000)


def other_files() -> Iterator[Case]:
    """What libsndfile does not read."""
    samples = music()
    for suffix, form, codec, slack in [
        ("m4a", "ipod", "aac", 1100),
        ("alac.m4a", "ipod", "alac", 0),
        ("mp4", "mp4", "aac", 1100),
        ("mov", "mov", "pcm_s16le", 0),
        ("aac", "adts", "aac", 2100),
        ("webm", "webm", "libopus", 1000),
        ("mka", "matroska", "flac", 0),
        ("wma", "asf", "wmav2", 3000),
        ("wv", "wv", "wavpack", 0),
        ("tta", "tta", "tta", 0),
        ("ac3", "ac3", "ac3", 1600),
        ("mp2", "mp2", "mp2", 2400),
        ("avi", "avi", "pcm_s16le", 0),
    ]:
        rate_hz = 48_000 if codec in {"libopus", "ac3"} else 44_100 if codec == "mp2" else RATE_HZ
        source = samples if rate_hz == RATE_HZ else music(SECONDS * rate_hz, rate_hz=rate_hz)

        def make(form=form, codec=codec, source=source, rate_hz=rate_hz):
            return by_ffmpeg(form, codec, source, rate_hz)

        exact = source if slack == 0 else None
        yield Case(f"other.{suffix}", make, len(source), slack, exact, rate_hz)


def more_other_files() -> Iterator[Case]:
    """Of no length that is counted anywhere."""
    samples = music()
    yield Case("blocks.voc", lambda: by_ffmpeg("voc", "pcm_s16le", samples), exact=samples)
    yield Case("piped.wma", lambda: by_ffmpeg("asf", "wmav2", samples, piped=True), slack=3000)
    film = music(SECONDS * 44_100, rate_hz=44_100)
    yield Case("film.mpg", lambda: by_ffmpeg("mpeg", "mp2", film, 44_100), len(film), 2400, rate_hz=44_100)


def all_cases() -> list[Case]:
    """Each makes its bytes once."""
    cases = [
        *chunk_files(),
        *more_chunk_files(),
        *flac_files(),
        *mp3_files(),
        *ogg_files(),
        *other_files(),
        *more_other_files(),
    ]
    return [replace(case, make=functools.cache(case.make)) for case in cases]


CASES_FOR_DAMAGE = [
    case for case in all_cases() if case.name.startswith(("right.", "other.")) and case.name != "other.mp2"
]
