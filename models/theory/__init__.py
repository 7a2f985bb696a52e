"""The theory of transfer between tasks: linear and non-linear tasks, their exact and numerical solutions, formulas."""
