"""BiPVL-Seg: 3D vision and language, fused in both directions at every stage."""
