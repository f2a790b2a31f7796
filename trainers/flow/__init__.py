"""Gradient flow: least squares, matrix completion by factors, and the dynamics of singular values.

P2 = "Combining Explicit and Implicit Regularization for Efficient Learning in Deep Networks"
(Zhao, 2022). P3 = "Implicit regularization of gradient descent" (Wang & Roy Chowdhury, 2024).
"""
