"""Measuring predictions against labels, and pictures to judge them by."""
