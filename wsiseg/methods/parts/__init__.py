"""What methods are made of; each part is for two methods or more.

semi       a step of one student on labelled and unlabelled crops; most methods only add its loss
rounds     the same with an ensemble of earlier rounds as the teacher
student    a segmentation network that learns: optimiser, learning rate, EMA, and the loss on labelled crops
views      weak, strong and stain views, CutMix, dropped feature channels, drawing by weight
teachers   who labels unlabelled crops: the EMA, an ensemble
gate       which of these labels count: fixed, by class, adaptive, by quantile
bank       what is remembered of each class over the run
prototypes the mean features of each class over the run
chooser    where unlabelled crops are drawn, as a teacher sees it
critic     a discriminator with its optimiser, and what it knows
tags       what tags say of crops, and class activation maps
settle     batch statistics measured again on plain crops
"""
