"""What methods are made of; each part is used by two methods or more.

student    a segmentation network that learns: optimiser, learning rate, EMA, and the loss on labelled crops
views      weak and strong views, CutMix, dropped feature channels
teachers   who labels unlabelled crops: the EMA, an ensemble
gate       which of these labels count: fixed, by class, by quantile
bank       what is remembered of each class over the run
chooser    where unlabelled crops are drawn, as a teacher sees it
critic     a discriminator with its optimiser, and what it knows
settle     batch statistics measured again on plain crops
"""
