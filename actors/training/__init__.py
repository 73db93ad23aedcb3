"""Training: conversations to tokens and loss masks, DeepSpeed, and the pretraining of tiny models.

- ``trainer``: loads, trains, saves, exports; the one owner of DeepSpeed
- ``config``: its configuration, light to import
- ``tokenization``: conversations to token ids and loss masks
- ``pretrainer``: tiny causal language models from weighted texts
"""
