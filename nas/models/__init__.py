"""Networks that are trained and attacked: what they are, and how they are stored.

Importing this package imports no torch.
"""
