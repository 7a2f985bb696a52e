# PLACEHOLDER: simple versions, to be overwritten
import torch


def _b(images, change, other):
    f = (1 + change.float())[:, None, None, None]
    return (other + f * (images.float() - other)).clamp(0, 255).to(torch.uint8)


def brightness(images, change):
    return _b(images, change, torch.zeros_like(images).float())


def colour(images, change):
    return images.clone()


def contrast(images, change):
    return _b(images, change, images.float().mean((1, 2, 3), keepdim=True).round())


def sharpness(images, change):
    return _b(images, change, images.float())


def autocontrast(images):
    return images.clone()


def equalize(images):
    return images.flip(2)


def invert(images):
    return 255 - images


def posterize(images, bits):
    return images & (256 - 2 ** (8 - bits)).to(torch.uint8)[:, None, None, None]


def solarize(images, threshold):
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)
