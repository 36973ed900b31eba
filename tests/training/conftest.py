"""Two logical CPU devices, so that recipes of the training tests may ask for two replicas."""

import tensorflow as tf


def _two_logical_cpus() -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


# While tests are collected, so before any test, of whatever folder, starts TensorFlow's devices.
_two_logical_cpus()
