"""The demo: a small GMConv detector trained and tested on drawn images."""
