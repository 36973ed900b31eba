"""The network: front end, blocks, trunk, heads and strategies."""

import os
import sys

if "keras" not in sys.modules:  # whatever the user's keras.json says: Kapre runs on TensorFlow alone
    os.environ["KERAS_BACKEND"] = "tensorflow"
