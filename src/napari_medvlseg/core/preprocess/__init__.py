"""From an image's own voxels to what a network takes."""
