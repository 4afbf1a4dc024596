"""The words that choose among the ablations of MedCLIPSeg; light to import."""

ATTENTIONS = ("difference", "scaling", "none")
ORDERS = ("vision_first", "text_first", "none", "unimodal")
POOLINGS = ("average", "cls", "attention")
HEADS = ("mask", "evidential")
