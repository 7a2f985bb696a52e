"""Classification of images, one class of several, as a kind of study of augmentation policies."""
