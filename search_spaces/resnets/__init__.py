"""Residual networks of three stages, which differ in depth and width: the spaces ``wide_resnet``, ``robust_resnet``."""
