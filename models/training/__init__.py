"""Training of multi-task networks on images and on texts: losses, steps, training loops, devices, time and memory."""
