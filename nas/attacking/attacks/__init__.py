"""The attacks, one family a file. All but natural accuracy and CW in Linf are those of the package torchattacks.

docs/attacks.md lists where torchattacks departs from the papers, and what is done about it here.
"""
