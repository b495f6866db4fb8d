"""How well does each proxy predict measured robust accuracy?

    python -m experiments.correlation --table tiny_robustbench --dataset cifar10 --out runs/correlation

Cells of a measured table are built untrained, scored by every proxy, and the scores compared with the accuracies:
Kendall's tau and Spearman's rho with bootstrap intervals, beside the baselines that only count (parameters, MACs,
layers), and what a proxy knows that the parameter count does not.
"""
