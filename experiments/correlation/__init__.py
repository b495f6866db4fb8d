"""How well does each proxy predict measured robust accuracy?

    python -m experiments.correlation --table tiny_robustbench --dataset cifar10 --out runs/correlation

The cells of a table of measured accuracies are built with untrained weights and scored by every proxy. The scores are
compared with the accuracies: Kendall's tau and Spearman's rho with bootstrap intervals, the same for baselines that
only count (parameters, MACs, layers), and the partial tau given the parameter count.
"""
