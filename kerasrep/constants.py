"""Numbers and names that several stages share; units stand in the names.

Values are those of Kim, Urbano, Liem, Hanjalic (2018), arXiv 1802.04051, and of the code its authors
published. Derived numbers are derived here and nowhere else.
"""

from __future__ import annotations

SAMPLE_RATE_HZ = 22_050
N_CHANNELS = 2  # mono audio is doubled

SEGMENT_SECONDS = 2.5
SEGMENT_SAMPLES = int(SEGMENT_SECONDS * SAMPLE_RATE_HZ)  # 55,125

FFT_SAMPLES = 1024
HOP_SAMPLES = 256
N_MELS = 128
SEGMENT_FRAMES = 1 + SEGMENT_SAMPLES // HOP_SAMPLES  # 216, centred frames

DB_REFERENCE = 1.0
DB_AMIN = 1e-10
DB_TOP = 80.0  # below the loudest bin of the segment, both channels together

EMBEDDING_SIZE = 256
TARGET_SIZE = 50  # topics of pLSA, components of the mixture
SELF_CLASSES = 2  # 0: other track, 1: same track

SOURCES = ("self", "bpm", "year", "taste", "tag", "lyrics", "cdr_tag", "artist")
VALUE_SOURCES = ("bpm", "year")  # one number a track -> posterior of a Gaussian mixture
COUNT_SOURCES = ("taste", "tag", "lyrics", "cdr_tag", "artist")  # documents x terms -> pLSA

STRATEGIES = ("ss-r", "mss-cr", "ms-cr@2", "ms-cr@4", "ms-cr@6", "ms-sr@fc")
#: Blocks (conv1 ... conv7) that all sources share; ms-sr@fc shares the fc layer as well.
N_SHARED_BLOCKS = {"ss-r": 0, "mss-cr": 0, "ms-cr@2": 1, "ms-cr@4": 3, "ms-cr@6": 5, "ms-sr@fc": 7}

CORPORA = ("demo", "folder", "million_song")

SPLITS = ("train", "validation", "evaluation")  # evaluation: reserved for downstream tasks

#: In the order in which they are run and reported.
DOWNSTREAM_TASKS = (
    *("fma", "gtzan", "ext_ballroom", "irmas", "emotion_arousal", "emotion_valence", "jam", "lastfm1k"),
    *("demo_dance", "demo_metre", "demo_composer", "demo_lead", "demo_tempo", "demo_recommendation"),
)

#: What `kerasrep-export` writes: for TF Serving, then for other runtimes.
SAVED_MODEL = "savedmodel"
EXPORT_FORMATS = (SAVED_MODEL, "keras", "tflite", "onnx", "frozen")
#: Types that the kernels of an export may be stored in.
FLOAT32, FLOAT16 = "float32", "float16"
EXPORT_WEIGHTS = (FLOAT32, FLOAT16)
