"""Networks: multi-task image and text networks, backbones and encoders, alignment matrices, dropout, initialization."""
