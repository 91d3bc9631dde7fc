"""Engines: the computation of a layer's products, in torch and in compiled code."""
